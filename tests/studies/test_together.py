"""Trials as rows of one program are the runs of their settings, up to rounding."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import slow
from small import SMALL

import parl
from parl.agents.execution import joined
from parl.core.errors import ConfigError
from parl.runs.interruption import Interrupted
from parl.studies import together
from parl.studies.sweep import Study

RATES = "learning_rate=1e-4:1e-2:log"
OFF_POLICY = {"steps": 96, "num_envs": 2, "length": 8, "hidden": (4,), "eval_episodes": 1}
OFF_POLICY |= {"warmup": 32, "batch_size": 4, "capacity": 100}
CASES = [
    ("ppo", "jax:CartPole-v1", {"execution": "fused"} | SMALL),
    slow("ppo", "jax:CartPole-v1", {"execution": "host", "num_seeds": 2} | SMALL),
    slow("ppo", "CartPole-v1", {"num_seeds": 2, "log_info": "none"} | SMALL),
    slow("sac", "jax:Pendulum-v1", {"execution": "fused"} | OFF_POLICY),
    slow("dqn", "CartPole-v1", {"priority": 0.6, "n_step": 2} | OFF_POLICY),
    slow("crossq", "jax:Pendulum-v1", {"execution": "host"} | OFF_POLICY),
]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def sweep(algorithm: str, env: str, out: Path, **settings: Any) -> Study:
    return parl.sweep(algorithm, env, RATES, 3, out, True, **settings)


@pytest.mark.parametrize(("algorithm", "env", "settings"), CASES, ids=lambda x: str(x)[:30])
def test_rows_are_the_runs_of_their_settings(
    algorithm: str, env: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    alone = sweep(algorithm, env, tmp_path / "alone", **settings)
    rows = sweep(algorithm, env, tmp_path / "rows", together=3, **settings)
    for one, other in zip(alone.trials, rows.trials, strict=True):
        assert one.settings == other.settings
        assert one.result["env_steps"] == other.result["env_steps"] == settings["steps"]
        for before, now in zip(lines(one.path), lines(other.path), strict=True):
            assert before.keys() == now.keys() and before["env_steps"] == now["env_steps"]
            for name in (x for x in before if "loss" in x or x.startswith(("return", "episodes"))):
                np.testing.assert_allclose(
                    np.array(now[name], float), np.array(before[name], float), rtol=1e-3, atol=1e-4
                )
    losses = {lines(trial.path)[-1]["updates"] for trial in rows.trials}
    assert len(losses) == 1 and losses.pop() > 0
    # each is a run like any other: saved, judged, gone on with
    first = rows.trials[0].path
    more = settings["steps"] * 2
    assert parl.resume(first, steps=more, quiet=True).result["env_steps"] == more


@pytest.mark.slow
def test_what_does_not_fit_together_runs_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other shapes, a run that is there already, and one that diverges."""
    joins, join = [], joined.joined
    monkeypatch.setattr(
        together.joined, "joined", lambda x, turn: joins.append(len(x)) or join(x, turn)
    )
    small = {name: x for name, x in SMALL.items() if name != "hidden"} | {"steps": 640}
    space = {"learning_rate": [1e-3, 2e-3, 1e30], "hidden": [(4,), (5,)]}
    out = tmp_path / "study"
    study = parl.sweep("ppo", "jax:CartPole-v1", space, out=out, quiet=True, together=6, **small)
    assert joins == [3, 3]
    assert [bool(trial.error) for trial in study.trials] == [False] * 4 + [True] * 2
    hashes = {trial.result["params_sha256"] for trial in study.trials[:4]}
    assert len(hashes) == 4 and all(trial.result["env_steps"] == 640 for trial in study.trials[:4])
    # one that was broken off goes on by itself: the others are done
    lost = study.trials[1].path
    (lost / "result.json").unlink()
    again = parl.sweep("ppo", "jax:CartPole-v1", space, out=out, quiet=True, together=6, **small)
    assert joins == [3, 3]
    assert [trial.result.get("params_sha256") for trial in again.trials] == [
        trial.result.get("params_sha256") for trial in study.trials
    ]
    with pytest.raises(ConfigError, match="together trains its trials in one process"):
        parl.sweep("ppo", "jax:CartPole-v1", space, out=out, together=2, address="auto", **small)


@pytest.mark.slow
def test_a_signal_saves_all_rows_and_the_same_call_goes_on(tmp_path: Path) -> None:
    study = tmp_path / "study"
    call = lambda: sweep("ppo", "jax:CartPole-v1", study, together=3, **SMALL | {"steps": 300_000})

    def end() -> None:
        while not all(len(lines(study / "trials" / str(i))) > 3 for i in range(3)):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    def has_lines(i: int) -> bool:
        return (study / "trials" / str(i) / "metrics.jsonl").exists()

    def wait_and_end() -> None:
        while not all(map(has_lines, range(3))):
            time.sleep(0.1)
        end()

    threading.Thread(target=wait_and_end, daemon=True).start()
    with pytest.raises(Interrupted, match="the same command goes on"):
        call()
    steps = {lines(study / "trials" / str(i))[-1]["env_steps"] for i in range(3)}
    assert max(steps) < 300_000
    done = call()
    assert [trial.result["env_steps"] for trial in done.trials] == [300_000] * 3


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["fused", "host"])
def test_a_population_is_rows_of_one_program(
    execution: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joins, join = [], joined.joined
    monkeypatch.setattr(
        together.joined, "joined", lambda x, turn: joins.append(len(x)) or join(x, turn)
    )
    small = SMALL | {"steps": 128, "eval_episodes": 1, "execution": execution}
    study = parl.sweep(
        "ppo", "jax:CartPole-v1", RATES, 4, tmp_path / "s", True, pbt=2, together=4, **small
    )
    assert joins == [4, 4]  # a heir goes on with a copy of its donor's state
    state = json.loads((tmp_path / "s" / "population.json").read_text())
    assert len(state["exploits"]) == 1
    assert [trial.result["env_steps"] for trial in study.trials] == [128] * 4
    for trial in study.trials:
        assert [line["env_steps"] for line in lines(trial.path)] == list(range(16, 129, 16))
