"""Runs are found, grouped and compared with honest intervals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from parl import ops
from parl.cli import main
from parl.core.errors import ConfigError
from parl.core.locks import Lock
from parl.report.plotting import clock, curves_figure, smoothed
from parl.studies.compare import compare, latex, markdown, read_limits
from parl.studies.find import differing, find_runs, grouped, read_run


def write(
    path: Path, returns: list[float], seed: int = 0, algorithm: str = "ppo", env: str = "A-v0",
    finished: bool = True, steps: int = 200, **settings: Any,
) -> Path:  # fmt: skip
    """A run of a seed for each return, with an evaluation half way at half of them."""
    path.mkdir(parents=True)
    config = {"algorithm": algorithm, "env": env, "seed": seed, "num_seeds": len(returns)}
    (path / "config.json").write_text(json.dumps(config | {"settings": settings}))
    lines = [
        {
            "env_steps": int(share * steps),
            "wall_s": 10 * share,
            "sps": 500.0,
            "eval/return_mean": share * float(np.mean(returns)),
            "eval/return_mean_seeds": [share * x for x in returns],
        }
        for share in (0.5, 1.0)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        result = {"env_steps": steps, "return": {"seeds": returns, "mean": float(np.mean(returns))}}
        (path / "result.json").write_text(json.dumps(result))
    return path


def test_runs_are_found_below_and_told_apart_by_what_differs(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / "x" / f"slow{seed}", [1.0], seed, learning_rate=0.1, gamma=0.9)
        write(tmp_path / f"fast{seed}", [2.0], seed, learning_rate=0.2, gamma=0.9)
    runs = find_runs([tmp_path])
    groups = {label: len(members) for label, members in grouped(runs).items()}
    assert groups == {"learning_rate 0.1": 2, "learning_rate 0.2": 2}
    assert list(grouped(runs, "gamma")) == ["gamma 0.9"]
    assert list(grouped(runs, "setting:learning-rate")) == [
        "learning_rate 0.2",
        "learning_rate 0.1",
    ]
    with pytest.raises(ConfigError, match="no run has a setting 'beta'"):
        grouped(runs, "beta")
    write(tmp_path / "sac", [3.0], algorithm="sac", tau=0.1)
    assert set(grouped(find_runs([tmp_path]))) == {
        "ppo, learning_rate 0.1", "ppo, learning_rate 0.2", "sac",
    }  # fmt: skip


def test_a_winner_is_one_whose_interval_lies_above_all_others(tmp_path: Path) -> None:
    write(tmp_path / "a", [1.0, 2.0, 3.0, 4.0], learning_rate=0.1)
    write(tmp_path / "b", [11.0, 12.0, 13.0, 14.0], learning_rate=0.2)
    found = compare(find_runs([tmp_path]))
    assert [s.iqm for s in found.summaries] == [2.5, 12.5]  # without the least and the largest
    assert [s.wins for s in found.summaries] == [False, True]
    np.testing.assert_array_equal(found.improvement, [[0.5, 0.0], [1.0, 0.5]])
    assert "| A-v0 | learning_rate 0.2 | 4 | **12.5 [" in markdown(found)
    assert r"learning\_rate 0.2 & 4 & \textbf{12.5 [" in latex(found)
    write(tmp_path / "c", [12.0, 13.0, 14.0, 15.0], learning_rate=0.3)
    assert not any(s.wins for s in compare(find_runs([tmp_path])).summaries)


def test_few_seeds_have_no_interval_and_nobody_wins(tmp_path: Path) -> None:
    write(tmp_path / "a", [1.0, 2.0], learning_rate=0.1)
    write(tmp_path / "b", [11.0, 12.0, 13.0], learning_rate=0.2, finished=False)
    found = compare(find_runs([tmp_path]))
    assert found.summaries[0].low is None and not any(s.wins for s in found.summaries)
    assert found.remarks[0].startswith("fewer than 3 seeds, so no interval: learning_rate 0.1 on")
    assert found.remarks[1] == f"not finished: {tmp_path / 'b'}"


def test_environments_are_put_together_only_by_a_table(tmp_path: Path) -> None:
    for env, scale in (("A-v0", 1.0), ("B-v0", 100.0)):
        write(tmp_path / f"{env}1", [1 * scale, 2 * scale, 3 * scale], env=env, learning_rate=0.1)
        write(tmp_path / f"{env}2", [5 * scale, 5 * scale, 5 * scale], env=env, learning_rate=0.2)
    runs = find_runs([tmp_path])
    assert {s.env for s in compare(runs).summaries} == {"A-v0", "B-v0"}
    (tmp_path / "limits.csv").write_text("env,low,high\nA-v0,0,10\nB-v0,0,1000\n")
    found = compare(runs, limits=read_limits(tmp_path / "limits.csv"))
    together = [s for s in found.summaries if s.env == "all environments"]
    assert [round(s.iqm, 6) for s in together] == [0.2, 0.5] and together[1].scores.shape == (3, 2)
    with pytest.raises(ConfigError, match="has no row for B-v0"):
        compare(runs, limits={"A-v0": (0, 1)})
    (tmp_path / "limits.csv").write_text("env,low,high\nA-v0,1,1\n")
    with pytest.raises(ConfigError, match="low must be below high"):
        read_limits(tmp_path / "limits.csv")


def test_an_earlier_step_and_the_order_of_seeds(tmp_path: Path) -> None:
    write(tmp_path / "a", [1.0, 2.0, 3.0, 4.0, 9.0], learning_rate=0.1)
    assert compare(find_runs([tmp_path]), at=150).summaries[0].iqm == 1.5
    with pytest.raises(ConfigError, match="no 'eval/return_mean' up to step 10 "):
        compare(find_runs([tmp_path]), at=10)
    write(tmp_path / "b" / "b", [9.0, 2.0, 4.0, 1.0, 3.0], learning_rate=0.1)
    assert markdown(compare(find_runs([tmp_path / "a"]))) == markdown(
        compare(find_runs([tmp_path / "b"]))
    )


def test_the_probability_of_improvement_is_mann_and_whitneys() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 9, 30), draw.integers(0, 12, 20)
    expected = mannwhitneyu(a, b).statistic / (30 * 20)
    np.testing.assert_allclose(ops.probability_of_improvement(a, b), expected, rtol=1e-12)
    assert ops.performance_profile(np.array([1.0, 2.0, 3.0]), np.array([0, 1, 2.5])).tolist() == [
        1.0, pytest.approx(2 / 3), pytest.approx(1 / 3),
    ]  # fmt: skip


@pytest.mark.slow
def test_95_percent_intervals_hold_the_truth_in_95_percent() -> None:
    """10 seeds on 5 environments, 1,000 times."""
    draw, held = np.random.default_rng(1), 0
    for trial in range(1_000):
        _, low, high = ops.stratified_bootstrap(draw.normal(size=(10, 5)), samples=500, seed=trial)
        held += low <= 0.0 <= high
    assert 920 <= held <= 970


def test_curves_over_seconds_and_smoothed(tmp_path: Path) -> None:
    runs = [write(tmp_path / "a", [2.0, 4.0]), write(tmp_path / "b", [6.0], seed=2)]
    assert clock([*runs], "wall_s", np.array([100.0, 150.0])).tolist() == [5.0, 7.5]
    steps, values = smoothed((np.arange(3.0), np.array([[1.0], [3.0], [8.0]])), 2)
    assert values[:, 0].tolist() == [1.0, 2.0, 5.5] and len(steps) == 3
    figure = curves_figure({"all": runs}, x="wall_s", smooth=2)
    assert figure.axes[0].get_xlabel() == "seconds"
    assert "each point the mean of 2 evaluations" in figure.axes[0].texts[0].get_text()


def test_the_commands(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs" / "a", [1.0, 2.0, 3.0], learning_rate=0.1)
    write(tmp_path / "runs" / "b", [4.0, 5.0, 6.0], learning_rate=0.2)
    with (tmp_path / "runs" / "a" / ".lock").open("w"):
        lock = Lock(tmp_path / "runs" / "a" / ".lock")
        lock.write({})
    assert read_run(tmp_path / "runs" / "a").state == "running"
    assert main(["runs"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[1].split()[:6] == ["runs/a", "ppo", "A-v0", "3", "running", "200"]
    assert listed[2].split()[4:7] == ["finished", "200", "5"]
    lock.close()
    assert main(["compare", "runs", "--out", "told"]) == 0
    assert "above all others" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "told").iterdir()) == [
        "compare.json", "curves.png", "improvement.png", "profile.png", "table.md", "table.tex",
    ]  # fmt: skip
    assert main(["plot", "runs", "--out", "c.html", "--x", "wall_s"]) == 0
    page = (tmp_path / "c.html").read_text()
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</svg>")
    assert main(["plot", "runs", "--out", "c.svg"]) == 0
    write(tmp_path / "runs" / "c", [1.0], env="B-v0")
    capsys.readouterr()
    assert main(["plot", "runs"]) == 2
    assert "runs of 2 environments do not share an axis" in capsys.readouterr().err
    nowhere = ["compare", "runs", "--out", "told/table.md/x"]  # below a file
    for words in (
        ["plot", "runs", "--out", "x.pdf"],
        ["compare", "nowhere"],
        ["show", "told"],
        nowhere,
    ):
        assert main(words) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_follows_from_the_length_is_no_difference(tmp_path: Path) -> None:
    for steps in (100, 200):
        file = write(tmp_path / str(steps), [1.0], steps=steps) / "config.json"
        follows = {"schedule_steps": steps, "admit_every": steps // 50, "profile": f"0:{steps}"}
        config = json.loads(file.read_text()) | {"steps": steps, "init_from": ""} | follows
        file.write_text(json.dumps(config))
    runs = find_runs([tmp_path])
    assert differing(runs) == ["steps"] and list(grouped(runs)) == ["steps 100", "steps 200"]
    assert list(grouped(runs, "init_from")) == ["init_from none"]


def test_show_tells_what_is_not_the_recipes_own(tmp_path: Path, capsys: Any) -> None:
    run = write(tmp_path / "a", [1.0, 3.0], learning_rate=0.25)
    config = json.loads((run / "config.json").read_text())
    spec = json.loads((DATA / "ppo-host" / "config.json").read_text())["spec"]
    filled = {"execution": "host", "mode": "sync", "absolute_episodes": 0}  # by the run itself
    (run / "config.json").write_text(json.dumps(config | filled | {"spec": spec}))
    (run / "result.json").unlink()
    assert main(["show", str(run)]) == 0
    said = capsys.readouterr().out
    assert "ppo on A-v0, stopped" in said and "greedy evaluation, to 200 steps" in said
    rows = [line.split() for line in said.splitlines()]
    assert ["num_seeds", "2", "1"] in rows and ["learning_rate", "0.25", "0.001"] in rows
    assert not [row for row in rows if row and row[0] in filled]


DATA = Path(__file__).parents[1] / "data" / "runs"
