"""Runs of federated clients: trained, resumed, loaded, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

import parl
from parl.core.errors import ConfigError

SETTINGS = {"num_envs": 2, "length": 8, "hidden": (4,), "quiet": True, "curve": False}
CLIENTS = {"clients": 4, "participate": 0.5, "average_every": 2, "proximal": 0.1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> parl.Run:
    out = tmp_path_factory.mktemp("federated") / "run"
    more = {"randomize": ("length=0.3:0.9",), "eval_episodes": 2, "drop_out": 0.2}
    return parl.train("a2c", "jax:CartPole-v1", out, steps=96, **CLIENTS, **more, **SETTINGS)


def test_the_servers_policy_is_evaluated_and_loaded(run: parl.Run, tmp_path: Path) -> None:
    assert run.result["env_steps"] == 96 and run.result["updates"] == 6
    evaluation = parl.evaluate(run.path, 3)
    assert evaluation.returns.shape == (3,) and (evaluation.returns >= 8).all()
    agent = parl.load(run.path)
    agent.save(tmp_path / "agent")
    again = parl.load(tmp_path / "agent")
    obs = np.array([0.01, 0.02, -0.03, 0.04], np.float32)
    assert agent.predict(obs) == again.predict(obs)


def test_a_run_goes_on_where_it_was(run: parl.Run, tmp_path: Path) -> None:
    more = {"randomize": ("length=0.3:0.9",), "eval_episodes": 2, "drop_out": 0.2}
    out = tmp_path / "run"

    def stop(told: dict) -> parl.Stop | None:
        return parl.Stop("now") if told["env_steps"] >= 32 else None

    parl.train(
        "a2c",
        "jax:CartPole-v1",
        out,
        steps=96,
        on_checkpoint=stop,
        checkpoint_every=32,
        **CLIENTS,
        **more,
        **SETTINGS,
    )
    assert (
        parl.resume(out, quiet=True, curve=False).result["params_sha256"]
        == (run.result["params_sha256"])
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"participate": 0.5}, "add --clients"),
        ({"clients": 4, "num_seeds": 2}, "without --num-seeds"),
        ({"clients": 4, "straggle": 0.5}, "--average-every 2"),
        ({"clients": 4, "execution": "host"}, "an environment in JAX"),
        ({"clients": 4, "randomize": ("weight=1:2",)}, "no number 'weight'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(settings: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(parl.ParlError, match=words):
        parl.train("a2c", "jax:CartPole-v1", tmp_path / "run", steps=64, **settings, **SETTINGS)
    assert not (tmp_path / "run").exists()


def test_clients_need_an_algorithm_that_learns_on_policy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="such as ppo"):
        parl.train("dqn", "jax:CartPole-v1", tmp_path / "run", steps=64, clients=2, quiet=True)
