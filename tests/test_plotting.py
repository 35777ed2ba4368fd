import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from parl import ops
from parl.core.errors import ParlError
from parl.report.metrics import RunLog
from parl.report.plotting import aligned, curves_figure, plot_curves, plot_run, run_figure, series

CONFIG = {"algorithm": "ppo", "env": "CartPole-v1", "seed": 3, "num_seeds": 1}
RESULT = {"return_mean": 31.0, "return_std": 2.5, "episodes": 20, "env_steps": 4000, "wall_s": 5.2}

ONE_SEED = [
    {"env_steps": 1000, "return_mean": None},
    {"env_steps": 2000, "return_mean": 9.0, "eval/return_mean": 10.0, "eval/return_std": 4.0},
    {"env_steps": 3000, "return_mean": 18.0},
    {"env_steps": 4000, "return_mean": 27.0, "eval/return_mean": 30.0, "eval/return_std": 2.0},
]
THREE_SEEDS = [
    {"env_steps": 1000, "return_mean": None, "return_mean_seeds": [None, 4.0, 8.0]},
    {"env_steps": 2000, "return_mean": 5.0, "return_mean_seeds": [3, 5, 7]},
    {"env_steps": 2000, "eval/return_mean": 6.0, "eval/return_mean_seeds": [1, 2, 15]},
    {"env_steps": 4000, "eval/return_mean": 20.0, "eval/return_mean_seeds": [10, 20, 30]},
]


def write(path, records, config=None, result=None):
    log = RunLog(path, tensorboard=False)
    for record in records:
        log.write(record)
    for name, content in {"config.json": config, "result.json": result}.items():
        if content is not None:
            (path / name).write_text(json.dumps(content))
    return path


def lines(figure):
    """Label -> (x, y) of the labelled lines, and a list of the others' y."""
    drawn = figure.axes[0].get_lines()
    named = {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in drawn
        if not line.get_label().startswith("_")
    }
    return named, [list(line.get_ydata()) for line in drawn if line.get_label().startswith("_")]


def band(figure, label):
    """Step -> (low, high) of a band."""
    (found,) = [c for c in figure.axes[0].collections if c.get_label() == label]
    vertices = found.get_paths()[0].vertices
    return {
        x: tuple(np.unique(vertices[vertices[:, 0] == x, 1])) for x in np.unique(vertices[:, 0])
    }


def texts(figure):
    axes = figure.axes[0]
    return [axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)]


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def size(path):
    """Pixels of a PNG."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_one_seed(tmp_path):
    figure = run_figure(write(tmp_path, ONE_SEED, CONFIG, RESULT))
    named, others = lines(figure)
    assert named == {
        "training": ([2000, 3000, 4000], [9, 18, 27]),
        "greedy evaluation": ([2000, 4000], [10, 30]),
        "final": ([4000], [31]),
    }
    assert others == []
    assert band(figure, "± std over episodes") == {2000: (6, 14), 4000: (28, 32)}
    assert legend(figure) == ["training", "greedy evaluation", "± std over episodes", "final"]
    assert texts(figure) == [
        "PPO on CartPole-v1",
        "seed 3  ·  final return 31.0 ± 2.5 over 20 episodes  ·  4,000 steps in 5 s",
    ]


def test_the_style(tmp_path):
    figure = run_figure(write(tmp_path, ONE_SEED))
    figure.canvas.draw()
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("environment steps", "episode return")
    assert "2,000" in [label.get_text() for label in axes.get_xticklabels()]
    assert not axes.spines["top"].get_visible() and not axes.spines["right"].get_visible()
    legend = axes.get_legend()
    assert legend is not None and not legend.get_frame_on()


def test_several_seeds(tmp_path):
    result = RESULT | {"return_mean": [10.0, 20.0, 30.0], "return_std": [1.0, 1.0, 1.0]}
    figure = run_figure(write(tmp_path, THREE_SEEDS, CONFIG | {"num_seeds": 3}, result))
    named, others = lines(figure)
    assert named == {
        "training": ([1000, 2000], [6, 5]),  # of the seeds that have one
        "greedy evaluation, mean of 3 seeds": ([2000, 4000], [6, 20]),
        "final": ([4000], [20]),
    }
    assert others == [[1, 10], [2, 20], [15, 30]]
    assert band(figure, "range") == {2000: (1, 15), 4000: (10, 30)}
    assert texts(figure)[1] == (
        "3 seeds  ·  final return 20.0 ± 8.16 over seeds  ·  4,000 steps in 5 s"
    )


def test_training_alone_is_the_main_curve(tmp_path):
    records = [{k: v for k, v in r.items() if not k.startswith("eval")} for r in THREE_SEEDS]
    named, others = lines(run_figure(write(tmp_path / "my run", records)))
    assert named == {"training, mean of 3 seeds": ([1000, 2000], [6, 5])}
    np.testing.assert_array_equal(others, [[np.nan, 3], [4, 5], [8, 7]])
    assert texts(run_figure(tmp_path / "my run")) == ["my run", ""]


@pytest.mark.parametrize("records", [[], [{"env_steps": 8, "return_mean": None}]])
def test_nothing_yet(tmp_path, records):
    write(tmp_path, records, CONFIG)
    assert texts(run_figure(tmp_path)) == ["PPO on CartPole-v1", "seed 3", "no returns yet"]
    assert plot_run(tmp_path) == tmp_path / "curve.png"
    assert size(tmp_path / "curve.png") == (1200, 720)


def test_a_directory_without_files(tmp_path):
    (tmp_path / "result.json").write_text("{torn")
    assert texts(run_figure(tmp_path)) == [tmp_path.name, "", "no returns yet"]


def test_plot_run_writes_a_png(tmp_path):
    write(tmp_path, ONE_SEED, CONFIG, RESULT)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 5000, "ret')  # a run in progress
    path = plot_run(tmp_path)
    assert path == tmp_path / "curve.png" and size(path) == (1200, 720)


def test_plotting_leaves_pyplot_alone(tmp_path):
    write(tmp_path, ONE_SEED, CONFIG)
    code = (
        "import sys, pathlib, parl.report.plotting as p\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"p.plot_run(pathlib.Path({str(tmp_path)!r}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "curve.png").symlink_to("/dev/full")
    with pytest.raises(ParlError, match=r"curve\.png: No space left on device"):
        plot_run(write(tmp_path, ONE_SEED))


def test_series():
    steps, values = series(THREE_SEEDS, "return_mean")
    np.testing.assert_array_equal(steps, [1000, 2000])
    np.testing.assert_array_equal(values, [[np.nan, 4, 8], [3, 5, 7]])
    steps, values = series(ONE_SEED, "missing")
    assert steps.shape == (0,) and values.shape == (0, 1)


def test_aligned_runs_share_the_steps_all_reached():
    first = np.array([0.0, 10, 20]), np.array([[0.0], [10], [40]])
    second = np.array([5.0, 15, 40]), np.array([[1.0, 7], [np.nan, 8], [3, 9]])
    steps, values = aligned([first, second])
    np.testing.assert_array_equal(steps, [5, 10, 15, 20])
    np.testing.assert_allclose(values[:, 0], [5, 10, 25, 40])
    np.testing.assert_allclose(values[:, 1], 1 + 2 * np.array([0, 5, 10, 15]) / 35)
    np.testing.assert_allclose(values[:, 2], [7, 7.5, 8, 8.2])


def test_aligned_thins_long_curves():
    steps = np.arange(1000.0)
    grid, values = aligned([(steps, 2 * steps[:, None])])
    assert len(grid) == 200 and (grid[0], grid[-1]) == (0, 999)
    np.testing.assert_allclose(values[:, 0], 2 * grid)


def test_aligned_refuses_what_does_not_overlap():
    run = lambda *steps: (np.array(steps, float), np.zeros((len(steps), 1)))
    with pytest.raises(ParlError, match="no steps in common"):
        aligned([run(0, 1), run(5, 6)])
    with pytest.raises(ParlError, match="at least one run"):
        aligned([])


def test_curves(tmp_path):
    scores = np.array([[1.0, 10], [2, 20], [3, 30], [50, 60]])  # [seeds, points]
    runs = [
        write(
            tmp_path / str(i),
            [{"env_steps": s, "eval/return_mean": x} for s, x in zip((100, 200), row, strict=True)],
        )
        for i, row in enumerate(scores)
    ]
    three = write(tmp_path / "three", THREE_SEEDS)
    figure = curves_figure({"ours": runs, "theirs": [three], "one": runs[:1]}, "CartPole")
    named, _ = lines(figure)
    assert named == {
        "ours (4 seeds)": ([100, 200], [2.5, 25]),  # the interquartile mean of four
        "theirs (3 seeds)": ([2000, 4000], [6, 20]),
        "one": ([100, 200], [1, 10]),
    }
    bands = [np.asarray(c.get_paths()[0].vertices) for c in figure.axes[0].collections]
    assert len(bands) == 2
    low, high = ops.stratified_bootstrap(scores[:, 1])[1:]
    last = bands[0][bands[0][:, 0] == 200, 1]
    assert (last.min(), last.max()) == (low, high)
    assert texts(figure) == [
        "CartPole",
        "interquartile mean over seeds, with its 95 % bootstrap interval",
    ]
    mean = lines(curves_figure({"ours": runs}, statistic="mean"))[0]
    assert mean == {"ours (4 seeds)": ([100, 200], [14, 30])}
    out = tmp_path / "pictures" / "compare.png"
    assert plot_curves({"ours": runs}, out, "CartPole") == out
    assert size(out) == (1200, 720)


def test_curves_beyond_the_colours_differ_in_their_dashes(tmp_path):
    run = write(tmp_path, ONE_SEED)
    drawn = curves_figure({str(i): [run] for i in range(20)}).axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == 20


def test_a_curve_without_data_is_an_error(tmp_path):
    with pytest.raises(ParlError, match="has no 'eval/return_mean' to draw"):
        plot_curves({"ours": [write(tmp_path, [])]}, tmp_path / "out.png")
    run = write(tmp_path, ONE_SEED)
    with pytest.raises(ParlError, match="Did you mean eval/return_mean"):
        plot_curves({"ours": [run]}, tmp_path / "out.png", key="eval/returnmean")
