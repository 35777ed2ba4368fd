"""Runs that learn from data or keep what they collect, from the command line's side."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parl
from parl.cli import main
from parl.core.errors import CheckpointError, ConfigError, SpaceError
from parl.datasets.card import Card
from parl.datasets.reader import open_data
from parl.runs.config import RunConfig
from parl.runs.data import normalized, with_data
from parl.runs.directory import RunDir

pytest.importorskip("h5py")

RUNS = Path(__file__).parents[1] / "data" / "runs"
TINY: dict[str, Any] = {"hidden": (4,), "batch_size": 8, "quiet": True}


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes in the environment's own actions, from -2 to 2."""
    out = tmp_path_factory.mktemp("data") / "pendulum"
    parl.record(RUNS / "sac-host", out, episodes=2, sample=True)
    return out


@pytest.fixture(scope="module")
def run(pendulum: Path, tmp_path_factory: pytest.TempPathFactory) -> parl.Run:
    """BC without an environment."""
    out = tmp_path_factory.mktemp("runs") / "bc"
    return parl.train("bc", out=out, data=str(pendulum), steps=60, checkpoint_every=20, **TINY)


def test_without_an_environment_there_is_a_policy_and_no_return(run: parl.Run) -> None:
    assert run.result["return"] is None and run.result["updates"] == 60
    agent = parl.load(run.path)  # of the environment that the data are of, in its own actions
    assert agent.predict(np.zeros(3, np.float32)).shape == (1,)
    config = RunDir(run.path).config()
    assert config.env == "Pendulum-v1" and config.without_env and config.eval_env == "none"
    assert not list((run.path / "checkpoints").glob("*/replay.bin"))


def test_a_run_resumes_from_the_same_data_only(
    run: parl.Run, pendulum: Path, tmp_path: Path
) -> None:
    """A run of 60 updates is the run of 30 that went on, bit for bit."""
    out = tmp_path / "half"
    given = {"data": str(pendulum), "checkpoint_every": 20} | TINY
    parl.train("bc", out=out, steps=30, **given)
    assert (
        parl.resume(out, steps=60, quiet=True).result["params_sha256"]
        == (run.result["params_sha256"])
    )
    other = tmp_path / "other"
    parl.record(RUNS / "sac-host", other, episodes=2, sample=True, seed=1)
    config = RunDir(out).config()
    RunDir(out).write_config(dataclasses.replace(config, data=str(other)))
    with pytest.raises(CheckpointError, match="was saved with other data"):
        parl.resume(out, steps=90, quiet=True)


def test_what_a_run_on_data_refuses(pendulum: Path, tmp_path: Path) -> None:
    data: dict[str, Any] = {"data": str(pendulum)}
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match="ppo learns only from what its own policy has just done"):
        parl.train("ppo", "Pendulum-v1", out, **data)
    with pytest.raises(ConfigError, match="online_steps need an environment to step: add --env"):
        parl.train("sac", out=out, online_steps=100, **data)
    with pytest.raises(ConfigError, match="online_steps follow updates on a data set: add --data"):
        parl.train("sac", "Pendulum-v1", out, online_steps=100)
    with pytest.raises(ConfigError, match="td3_bc learns from a data set: add --data DIR"):
        parl.train("td3_bc", "Pendulum-v1", out)
    with pytest.raises(SpaceError, match=r"td3 needs a continuous \(Box\) action space"):
        parl.train("td3", "CartPole-v1", out, **data)
    with pytest.raises(parl.DataError, match=r"observations of shape \(3,\), but .* has Box\(4,\)"):
        parl.train("bc", "jax:CartPole-v1", out, **data)
    with pytest.raises(ConfigError, match="collects nothing: leave out --record"):
        parl.train("bc", out=out, record=str(tmp_path / "kept"), **data, **TINY)
    with pytest.raises(ConfigError, match="steps must be at least 1, not 0"):
        parl.train("sac", "Pendulum-v1", out, steps=0)
    with pytest.raises(
        SpaceError, match=r"iql is for several agents.*The IQL that learns from data"
    ):
        parl.train("iql", "CartPole-v1", out)
    assert main(["train", "bc", "--data", str(tmp_path / "none")]) == 2
    assert not out.exists() and not (tmp_path / "kept").exists()


def test_steps_of_both_phases_are_the_steps_of_a_run(pendulum: Path) -> None:
    config = RunConfig("sac", "Pendulum-v1", steps=40, online_steps=60, data=str(pendulum))
    found = with_data(config, has_env=True)
    assert (found.steps, found.data_steps) == (100, 40)


def test_scores_are_normalised_where_both_ends_are_known() -> None:
    card = Card(reference={"random": -300.0, "expert": 700.0})
    assert normalized(card, {"return": {"mean": 200.0}}) == 50.0
    assert normalized(card, {"return": None}) is None
    assert normalized(Card(), {"return": {"mean": 200.0}}) is None


def test_what_training_collects_is_kept(tmp_path: Path) -> None:
    """All steps of a run; resumed, only the episodes under way are left out."""
    kept = tmp_path / "kept"
    settings = {"num_envs": 2, "length": 16, "epochs": 1, "minibatches": 1, "hidden": (4,)}
    settings |= {"eval_env": "none", "quiet": True, "checkpoint_every": 64}
    run = parl.train(
        "ppo", "CartPole-v1", tmp_path / "run", steps=256, record=str(kept), **settings
    )
    found = open_data(kept)
    assert found.card.steps == 256
    ended = [e for e in found.episodes() if e.terminated[-1]]
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert len(ended) == sum(json.loads(line)["episodes"] for line in lines) > 4
    assert sum(not e.terminated[-1] for e in found.episodes()) == 2  # cut by the end of the run
    parl.resume(run.path, steps=320, quiet=True)
    more = open_data(kept)
    assert 256 < more.card.steps <= 320 and more.card.episodes > found.card.episodes
    assert all(each.observations.shape == (each.size + 1, 4) for each in more.episodes())
    with pytest.raises(ConfigError, match="fused execution keeps its rollouts on the device"):
        parl.train("ppo", "jax:CartPole-v1", tmp_path / "b", record=str(kept), **settings)
