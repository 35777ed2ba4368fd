"""Sweeps: the space, its trials, and that each trial is the run of its settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiling import compilations
from small import SMALL

import parl
from parl import ConfigError
from parl.cli.main import main
from parl.recipes.ppo import PPORecipe
from parl.studies import find
from parl.studies.space import Choices, Range, Space, read_space, trials_of
from parl.studies.sweep import Study, importance
from parl.studies.trial import Trial

RECIPE = PPORecipe()


def test_a_space_is_read_from_text_mapping_and_file(tmp_path: Path) -> None:
    text = "learning_rate=1e-4:1e-2:log, gamma=0.9,0.99, hidden=64x64,256, length=8:128"
    expected = {
        "learning_rate": Range(1e-4, 1e-2, True),
        "gamma": Choices((0.9, 0.99)),
        "hidden": Choices(((64, 64), (256,))),
        "length": Range(8, 128, False, True),
    }
    assert read_space(text, RECIPE) == expected
    file = tmp_path / "space.yaml"
    file.write_text(
        "learning-rate: {low: 1e-4, high: 1e-2, log: true}\ngamma: [0.9, 0.99]\n"
        "hidden: [[64, 64], [256]]\nlength: {low: 8, high: 128}\n"
    )
    assert read_space(str(file), RECIPE) == expected


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ("learning_rte=1:2", "Did you mean learning_rate"),
        ("learning_rate=1e-2:1e-4", "must rise"),
        ("learning_rate=0:1:log", "must be above 0"),
        ("learning_rate=1:2:lin", "is no range"),
        ("gamma=0.5,1.5", "at most 1"),
        ("gamma=0.9,0.9", "a value twice"),
        ("anneal=0:1", "is not one number"),
        ("gamma", "is neither"),
        ("", "over takes settings"),
        ({"gamma": {"low": 0.1}}, "needs low and high"),
    ],
)
def test_a_space_that_does_not_fit_is_one_sentence(over: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_space(over, RECIPE)


def test_choices_alone_are_a_grid() -> None:
    space: Space = {"a": Choices((1, 2)), "b": Choices(("x", "y", "z"))}
    found = [tuple(trial.values()) for trial in trials_of(space, None)]
    assert found == [(1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z")]


def test_a_single_range_is_walked_evenly() -> None:
    trials = trials_of({"rate": Range(1e-4, 1e-2, True)}, 5)
    expected = [1e-4, 3.16228e-4, 1e-3, 3.16228e-3, 1e-2]
    np.testing.assert_allclose([t["rate"] for t in trials], expected, rtol=1e-12)
    with pytest.raises(ConfigError, match="say how many trials"):
        trials_of({"rate": Range(1e-4, 1e-2, True)}, None)


def test_each_part_of_each_range_is_used_once() -> None:
    space = {"a": Range(0, 1), "b": Range(0, 8, whole=True), "c": Choices((1, 2))}
    trials = trials_of(space, 8, seed=3)
    assert sorted(t["a"] for t in trials) == [(i + 0.5) / 8 for i in range(8)]
    assert sorted(t["b"] for t in trials) == [round(i + 0.5) for i in range(8)]
    assert sorted(t["c"] for t in trials) == [1] * 4 + [2] * 4
    assert trials == trials_of(space, 8, seed=3) != trials_of(space, 8, seed=4)


def test_importance_is_the_share_of_variance_by_hand() -> None:
    """Ranks 0 to 7; `a` splits them into halves: within 10, total 42, so 1 - (10/6) / (42/7)."""
    space: Space = {"a": Choices((0, 1)), "b": Choices((0, 1))}
    trials = [
        Trial(Path(), {"a": i // 4, "b": i % 2}, {"return": {"mean": float(i)}}) for i in range(8)
    ]
    found = importance(Study(Path(), space, trials))
    assert found["a"] == pytest.approx(1 - (10 / 6) / (42 / 7))
    assert found["b"] == 0.0  # its halves differ by 1 rank: less than chance
    assert importance(Study(Path(), space, trials[:7])) == {}


def test_trials_are_the_runs_of_their_settings_and_compile_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    flags = "--steps 64 --num-envs 2 --length 8 --minibatches 2 --epochs 1 --hidden 4 --no-anneal"
    command = f"sweep ppo --env jax:CartPole-v1 {flags} --eval-episodes 0 --num-trials 3".split()
    command += ["--over", "learning_rate=1e-4:1e-2:log", "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "trial 3 of 3: learning_rate 0.01: return " in said and "is a maximum" in said
    assert (out / "sweep.png").stat().st_size > 10_000
    runs = find.find_runs([out])
    assert [run.config["settings"]["learning_rate"] for run in runs] == [1e-4, 1e-3, 1e-2]
    with compilations() as compiled:
        alone = parl.train(
            "ppo", "jax:CartPole-v1", tmp_path / "run", True, learning_rate=1e-3, **SMALL
        )
    assert not compiled
    assert alone.result["params_sha256"] == runs[1].result["params_sha256"]

    # what is missing is completed, the rest is as it was
    before = (out / "trials" / "0" / "result.json").stat().st_mtime_ns
    (out / "trials" / "2" / "result.json").unlink()
    again = parl.sweep(
        "ppo",
        "jax:CartPole-v1",
        "learning_rate=1e-4:1e-2:log",
        3,
        tmp_path / "other",
        True,
        **SMALL,
    )
    assert main(command) == 0
    hashes = [trial.result["params_sha256"] for trial in again.trials]
    assert hashes == [run.result["params_sha256"] for run in find.find_runs([out])]
    assert (out / "trials" / "0" / "result.json").stat().st_mtime_ns == before
    capsys.readouterr()
    assert main([*command, "--sample-seed", "1", "--seed", "5"]) == 2
    assert "holds a study with other settings" in capsys.readouterr().err


def test_a_trial_that_diverges_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    study = parl.sweep(
        "ppo", "jax:CartPole-v1", "learning_rate=1e-3,1e30", out=tmp_path / "s", quiet=True,
        **SMALL | {"steps": 640},
    )  # fmt: skip
    good, bad = study.trials
    assert np.isfinite(good.score) and "diverged" in bad.error
    assert [trial.path.name for trial in study.ranked] == ["0", "1"]
    assert "diverged" in (tmp_path / "s" / "sweep.csv").read_text()


@pytest.mark.slow
def test_trials_on_a_cluster_are_those_here(tmp_path: Path) -> None:
    settings = {"over": "gamma=0.9,0.99", "quiet": True, "steps": 64, **SMALL}
    here = parl.sweep("ppo", "jax:CartPole-v1", out=tmp_path / "here", **settings)
    parl.connect(num_cpus=2)
    try:
        there = parl.sweep(
            "ppo", "jax:CartPole-v1", out=tmp_path / "there", address="auto", **settings
        )
    finally:
        parl.disconnect()
    assert [trial.settings for trial in there.trials] == [trial.settings for trial in here.trials]
    digests = lambda study: [trial.result["params_sha256"] for trial in study.trials]
    assert digests(there) == digests(here) and len(set(digests(here))) == 2
    assert [trial.path for trial in there.trials] == [
        tmp_path / "there" / "trials" / name for name in "01"
    ]
    assert (tmp_path / "there" / "sweep.csv").exists()
    with pytest.raises(ConfigError, match="leave out --address"):
        parl.sweep(
            "ppo", "jax:CartPole-v1", out=tmp_path / "pbt", address="auto", pbt=2, **settings
        )
