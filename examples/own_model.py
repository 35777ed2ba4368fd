"""A network of one's own: a residual torso in PPO, trained by name or as an object.

    python examples/own_model.py [DIR]

Any flax.linen module serves; a policy head makes a distribution of what the torso gives.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

import parl
from parl.algorithms.ppo import PPO
from parl.models import Value, policy_head


class Residual(nn.Module):
    """Two residual layers with normalisation."""

    width: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(self.width)(x)
        for _ in range(2):
            x = x + nn.Dense(self.width)(nn.swish(nn.LayerNorm()(x)))
        return jnp.tanh(x)


def learner(spec: parl.EnvSpec, width: int = 32) -> parl.OnPolicy:
    """PPO whose actor and critic are residual networks."""
    obs, actions = spec.observation_space, spec.action_space
    actor = policy_head(obs, actions, Residual(width))
    critic = Value(obs, Residual(width))
    settings = {"learning_rate": 1e-3, "epochs": 4, "minibatches": 2}
    return parl.OnPolicy(PPO(actor=actor, critic=critic, **settings))


def main(out: Path, steps: int = 30_000) -> None:
    """Trains on an environment in JAX, and acts."""
    spec = parl.EnvSpec("CartPole-v1", parl.Box((4,)), parl.Discrete(2), max_steps=500)
    own = learner(spec)
    run = parl.train(own, "jax:CartPole-v1", out, quiet=True, steps=steps, num_envs=8, length=64)
    print(f"a return of {run.result['return']['mean']:.0f}")
    agent = parl.load(out, algorithm=own)
    print("an action:", agent.predict(agent.spec.obs[0]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch) / "run")
