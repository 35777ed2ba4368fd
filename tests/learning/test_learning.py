"""Learning runs of minutes: pytest -m slow."""

from pathlib import Path

import numpy as np
import pytest

import parl

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("algorithm", "env", "steps", "seeds", "reached", "how_many"),
    [
        ("ppo", "jax:CartPole-v1", 500_000, 8, 475.0, 8),
        ("appo", "jax:CartPole-v1", 300_000, 3, 475.0, 3),
        ("a2c", "jax:CartPole-v1", 500_000, 3, 475.0, 3),
        ("impala", "jax:CartPole-v1", 500_000, 3, 475.0, 3),
        ("pg", "jax:CartPole-v1", 500_000, 3, 450.0, 3),
        ("dqn", "jax:CartPole-v1", 200_000, 5, 450.0, 4),
        ("sac", "jax:Pendulum-v1", 50_000, 1, -200.0, 1),
        ("es", "jax:CartPole-v1", 500_000, 5, 475.0, 5),
    ],
)
def test_learns(algorithm, env, steps, seeds, reached, how_many, tmp_path: Path) -> None:
    run = parl.train(
        algorithm, env, tmp_path / "run", steps=steps, num_seeds=seeds, eval_episodes=20
    )
    returns = np.atleast_1d(run.result["return_mean"])
    assert (returns >= reached).sum() >= how_many, returns


def test_ppo_learns_through_ray_actors(tmp_path: Path) -> None:
    run = parl.train(
        "ppo", "CartPole-v1", tmp_path / "run", steps=100_000, actors=2, eval_episodes=20
    )
    assert run.result["return_mean"] >= 475.0
