"""Federated clients on Ray."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import parl

SETTINGS = {"num_envs": 2, "length": 8, "hidden": (4,), "clients": 6, "participate": 0.5}


@pytest.mark.slow
def test_shared_out_clients_learn_what_they_learn_here(tmp_path: Path) -> None:
    """The sum of a round has another order, so the parameters are equal to rounding."""
    quiet = {"quiet": True, "curve": False, "steps": 64, "eval_episodes": 0}
    here = parl.train("pg", "jax:CartPole-v1", tmp_path / "here", **SETTINGS, **quiet)
    there = parl.train("pg", "jax:CartPole-v1", tmp_path / "there", actors=2, **SETTINGS, **quiet)
    assert here.result["return_mean"] == there.result["return_mean"]
    obs = np.zeros((1, 4), np.float32)
    ours, theirs = (parl.load(run.path) for run in (here, there))
    for x, y in zip(_leaves(ours), _leaves(theirs), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
    assert ours.predict(obs[0]) == theirs.predict(obs[0])


def _leaves(agent: parl.Agent) -> list[np.ndarray]:
    import jax

    return [np.asarray(x) for x in jax.tree.leaves(agent.weights)]


@pytest.mark.slow
def test_a_lost_actor_is_started_again_and_counted(tmp_path: Path) -> None:
    from parl.remote import connect
    from parl.runs.build import resolve
    from parl.runs.config import RunConfig
    from parl.runs.executions import make_execution

    settings = {k: SETTINGS[k] for k in ("num_envs", "length", "hidden")}
    config = RunConfig("pg", "jax:CartPole-v1", settings=settings, clients=6, actors=2, steps=640)
    connect("local")
    run = make_execution(resolve(config))
    try:
        run.advance(1)
        shard = run.shards.shards[0]  # pyright: ignore
        os.kill(shard.process, signal.SIGKILL)
        run.advance(2)
        told = run.stats()
        assert told["clients/lost_actors"] == 1
        assert told["clients/sent"] == 18 and told["clients/lost_results"] == 3
    finally:
        run.close()
