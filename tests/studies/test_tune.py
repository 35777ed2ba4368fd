"""Tuning: trials through Optuna's journal, pruned, gone on with, and judged on fresh seeds."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import SMALL

import parl
from parl.core.errors import ConfigError
from parl.studies import tune
from parl.studies.space import Choices, Range, Space

pytest.importorskip("optuna")
JUDGED = SMALL | {"eval_episodes": 1}
OVER = "learning_rate=1e-4:1e-2:log,gamma=0.9,0.99"


def test_a_study_is_judged_on_seeds_that_no_trial_has_seen(tmp_path: Path) -> None:
    out = tmp_path / "study"
    search = lambda: parl.tune(
        "ppo",
        "jax:CartPole-v1",
        OVER,
        3,
        out,
        True,
        prune=False,
        finalists=2,
        final_seeds=2,
        **JUDGED,
    )
    found = search()
    assert len(found.trials) == 3 and found.pruned == found.failed == 0
    assert found.trials[0].score == max(trial.score for trial in found.trials)
    config = json.loads((found.finals[0].path / "config.json").read_text())
    assert (config["seed"], config["num_seeds"]) == (1, 2)  # the trials' was 0
    assert {f.settings["learning_rate"] for f in found.finals} == {
        t.settings["learning_rate"] for t in found.trials[:2]
    }
    best = found.finals[0].settings
    text = (out / "best.yaml").read_text().splitlines()
    assert f"learning_rate: {best['learning_rate']!r}" in text and 'algorithm: "ppo"' in text

    # again, or joined, it has no more to do
    assert search().finals == found.finals == tune.join(out, quiet=True).finals
    with pytest.raises(ConfigError, match="holds a study with other num_trials"):
        parl.tune("ppo", "jax:CartPole-v1", OVER, 4, out, True, **JUDGED)


def test_a_trial_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    space = {"learning_rate": Range(1e-4, 1e-2, True), "gamma": Choices((0.9, 0.99))}
    plan = tune.Plan(tmp_path, "ppo", "jax:CartPole-v1", space, 1, JUDGED, False, 1, 1)
    study = tune.open_study(plan, 0)
    trial = study.ask()
    chosen = tune.suggested(plan, trial)
    end = lambda line: parl.Stop("killed") if line["env_steps"] >= 32 else None
    first = tune.run_trial(
        tune.place(plan, 0), "ppo", "jax:CartPole-v1", chosen, JUDGED | {"on_record": end}
    )
    assert first.result["env_steps"] == 32 and tune.abandoned(plan, study) == [0]
    done = tune.work(plan, 0, quiet=True)
    assert [trial.result["env_steps"] for trial in done.trials] == [64]
    assert tune.abandoned(plan, study) == [] and len(study.trials) == 1


def test_a_process_that_dies_meanwhile_leaves_its_trial_to_the_last(tmp_path: Path) -> None:
    space: Space = {"learning_rate": Range(1e-4, 1e-2, True)}
    lock = tmp_path / "trials" / "0000" / tune.LOCK

    def dies(line: dict) -> None:  # of another process: nobody holds its lock any more
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()

    settings = JUDGED | {"on_record": dies}
    plan = tune.Plan(tmp_path, "ppo", "jax:CartPole-v1", space, 2, settings, False, 1, 1)
    study = tune.open_study(plan, 0)
    tune.suggested(plan, study.ask())
    assert tune.abandoned(plan, study) == []  # it has not begun to train
    done = tune.work(plan, 0, quiet=True)
    assert len(done.trials) == len(study.trials) == 2 and len(done.finals) == 1


class Trial:
    """Stands for a trial of Optuna that is pruned at its second report."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, int]] = []

    def report(self, value: float, step: int) -> None:
        self.reports.append((value, step))

    def should_prune(self) -> bool:
        return len(self.reports) == 2


def test_an_evaluation_is_reported_and_may_end_the_trial() -> None:
    trial, count, ended = Trial(), [0], []
    told = [
        tune.watch(trial, count, ended, {"return": final, "env_steps": steps})
        for steps, final in ((100, {"mean": 5.0}), (200, None), (1_300, {"mean": 6.0}))
    ]
    assert trial.reports == [(5.0, 1), (6.0, 2)] and ended == ["1,300"]
    assert told[:2] == [None, None] and isinstance(told[2], parl.Stop)


def command(out: Path, steps: int, num_trials: int) -> list[str]:
    """`parl tune` of a small ppo."""
    flags = f"--steps {steps} --num-envs 2 --length 8 --minibatches 2 --epochs 1 --hidden 4"
    words = [*TUNE, "ppo", "--env", "jax:CartPole-v1", *flags.split(), "--over", OVER]
    return [*words, "--num-trials", str(num_trials), "--out", str(out), "--eval-episodes", "1"]


TUNE = [sys.executable, "-W", "ignore", "-m", "parl.cli", "tune"]


@pytest.mark.slow
def test_the_printed_recipe_for_ray_tune(tmp_path: Path) -> None:
    pytest.importorskip("ray.tune", exc_type=ImportError)
    page = Path(__file__).parents[2] / "docs" / "workbench.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (recipe,) = [block for block in blocks if "ray import tune" in block]
    assert len([line for line in recipe.splitlines() if line.strip()]) <= 18
    short = recipe.replace("steps=50_000", "steps=512").replace("num_samples=16", "num_samples=2")
    assert short.count("=512") == short.count("=2,") == 1
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", short], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rate = re.search(r"\{'learning_rate': ([\d.e-]+)\}", done.stdout)
    assert rate and 1e-5 <= float(rate[1]) <= 1e-2


@pytest.mark.slow
def test_another_process_goes_on_with_the_trial_of_a_killed_one(tmp_path: Path) -> None:
    out = tmp_path / "study"
    first = subprocess.Popen(command(out, 60_000, 2), stdout=subprocess.DEVNULL)
    metrics = out / "trials" / "0000" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 5):
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    assert not (out / "trials" / "0000" / "result.json").exists()
    joined = subprocess.run([*TUNE, "--join", str(out)], capture_output=True, text=True)
    assert joined.returncode == 0, joined.stderr
    assert joined.stdout.startswith("trial 0 was broken off: it goes on\n")
    assert sorted(path.name for path in (out / "trials").iterdir()) == ["0000", "0001"]
    result = json.loads((metrics.parent / "result.json").read_text())
    steps = [json.loads(line)["env_steps"] for line in metrics.read_text().splitlines()]
    assert result["env_steps"] == steps[-1] == 60_000
    assert steps == sorted(set(steps)) and (out / "best.yaml").exists()


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path: Path) -> None:
    out = tmp_path / "study"
    first = command(out, 640, 8)
    one = subprocess.Popen(first, stdout=subprocess.PIPE, text=True)
    while not (out / "journal.log").exists():
        assert one.poll() is None
    joined = subprocess.run([*TUNE, "--join", str(out)], capture_output=True, text=True)
    said, _ = one.communicate(timeout=300)
    assert one.returncode == joined.returncode == 0
    runs = len(list((out / "trials").iterdir()))
    assert 8 <= runs <= 9  # both may ask for the last one
    assert said.count("trial ") and joined.stdout.count(": return") + joined.stdout.count("pruned")
    assert (out / "best.yaml").exists()
