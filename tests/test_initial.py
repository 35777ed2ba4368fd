"""Runs that start from another run's networks."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow
from small import SMALL

import parl
from parl.agents.execution.protocol import Seeds
from parl.agents.learner import LearnerState
from parl.core import checkpoint
from parl.core.errors import ConfigError
from parl.runs.config import RunConfig
from parl.runs.initial import STATE, start_from, take

TEACHER = Path(__file__).parent / "data" / "runs" / "ppo-fused"
RUN: dict[str, Any] = SMALL | {
    "env": "jax:CartPole-v1",
    "hidden": (8,),
    "quiet": True,
    "curve": False,
    "steps": 32,
    "eval_every": 16,
}


def arrays_at(path: Path, step: int) -> dict[str, np.ndarray]:
    return checkpoint.read(path / "checkpoints" / str(step), ("replay",)).under(STATE)


def networks(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n: x for n, x in arrays.items() if "params" in n.split("/") and "/opt/" not in n}


def test_leaves_are_taken_by_name_and_shape() -> None:
    state = {
        "actor": {
            "params": {"a": jnp.zeros((2, 3)), "b": jnp.zeros(2)},
            "opt": jnp.zeros(3),
        },
        "target": {"c": jnp.zeros(1)},
        "updates": jnp.int32(0),
    }
    there = {
        "inner/actor/params/a": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
        "inner/actor/params/b": np.ones((1, 4), np.float32),
        "inner/actor/opt": np.ones((1, 3), np.float32),
        "inner/updates": np.full(1, 7, np.int32),
    }
    found = take(state, there, ())
    assert found.taken == ["actor/params/a"]
    assert found.left == {"actor/params/b": "[4] there, [2] here", "target/c": "only here"}
    np.testing.assert_array_equal(found.state["actor"]["params"]["a"], [[0, 1, 2], [3, 4, 5]])
    assert found.state["updates"] == 0 and found.state["actor"]["opt"].sum() == 0


def test_each_seed_takes_its_own() -> None:
    state = {"params": {"a": jnp.zeros((3, 2))}}  # three seeds
    there = {"params/a": np.array([[1, 2], [3, 4]], np.float32)}  # two
    found = take(state, there, (3,))
    np.testing.assert_array_equal(found.state["params"]["a"], [[1, 2], [3, 4], [1, 2]])
    np.testing.assert_array_equal(
        take({"params": {"a": jnp.zeros(2)}}, there, ()).state["params"]["a"], [1, 2]
    )


@pytest.mark.parametrize(
    "how",
    [
        {"execution": "fused"},
        slow({"execution": "host"}),
        slow({"execution": "ray", "actors": 2}),
        slow({"execution": "ray", "actors": 2, "mode": "async"}),
        slow({"execution": "fused", "num_seeds": 2}),
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_a_run_starts_from_another_once(
    tmp_path: Path, how: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    algorithm = "appo" if how.get("mode") else "ppo"
    settings = RUN | {"init_from": TEACHER, "quiet": False}
    if algorithm == "appo":
        settings = {k: x for k, x in settings.items() if k not in ("minibatches", "epochs")}
    end = lambda line: parl.Stop("half") if line["env_steps"] >= 16 else None
    run = parl.train(algorithm, out=tmp_path / "run", on_record=end, **settings, **how)
    there, here = networks(arrays_at(TEACHER, 512)), networks(arrays_at(run.path, 0))
    assert there.keys() == here.keys()
    for name, array in there.items():
        np.testing.assert_array_equal(np.broadcast_to(array, here[name].shape), here[name])
    assert f"starts from {TEACHER} at step 512: 8 of 8 leaves fit" in capsys.readouterr().err
    assert json.loads((run.path / "config.json").read_text())["init_from"] == str(TEACHER)
    learned = networks(arrays_at(run.path, 16))
    assert any((learned[name] != here[name]).any() for name in here)
    if "actors" not in how:
        parl.resume(run.path, quiet=True, curve=False)
        again = networks(arrays_at(run.path, 32))
        assert any((again[n] != learned[n]).any() for n in again)
        assert any((again[n] != here[n]).any() for n in again)


def test_what_fits_nowhere_is_an_error() -> None:
    state = LearnerState.fresh({"q": {"params": {"w": jnp.zeros(3)}}})
    execution: Any = SimpleNamespace(state=state, seeds=Seeds((0,)))
    config = RunConfig("dqn", "jax:CartPole-v1", init_from=str(TEACHER))
    with pytest.raises(ConfigError, match=r"at step 512, ppo on .*, fits this run: q/params/w \("):
        start_from(execution, config)


@pytest.mark.slow
def test_a_run_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    settings = RUN | {"hidden": (4,), "init_from": TEACHER}
    for name in ("minibatches", "epochs"):
        del settings[name]
    with pytest.raises(ConfigError, match="fits this run: "):
        parl.train("dqn", out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="is not a run directory"):
        parl.train("ppo", out=tmp_path / "run", **RUN, init_from=str(tmp_path / "nowhere"))
