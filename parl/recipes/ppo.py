"""PPO with settings by kind of environment.

Discrete actions on vectors: RL Baselines3 Zoo's CartPole, with 8 epochs of 2 minibatches in place
of 20 of 1, which is as good there and faster. Images: its Atari. Continuous actions: CleanRL's
MuJoCo.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from parl.agents.learner import Learner
from parl.algorithms.ppo import PPO
from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete
from parl.models import CategoricalPolicy, NormalPolicy, Value, orthogonal_torso
from parl.models.encoder import is_image
from parl.recipes.base import OnPolicyRecipe

DISCRETE = PPO(epochs=8, minibatches=2, learning_rate=1e-3, gamma=0.98, lambda_=0.8)
IMAGES = PPO(epochs=4, minibatches=4, learning_rate=2.5e-4, clip=0.1, entropy_cost=0.01)
CONTINUOUS = PPO(epochs=10, minibatches=32, learning_rate=3e-4)


@dataclass(frozen=True)
class PPORecipe(OnPolicyRecipe):
    """Proximal policy optimisation for any action space."""

    serves: ClassVar[tuple[type, ...]] = (Box, Discrete, MultiDiscrete)
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates",)

    algorithm: PPO = CONTINUOUS
    hidden: tuple[int, ...] = (64, 64)
    num_envs: int = 8
    length: int = 256
    anneal: bool = True  # the learning rate falls linearly to 0 at the end of the run

    @classmethod
    def for_env(cls, spec: EnvSpec) -> "PPORecipe":
        if is_image(spec.observation_space):
            return cls(algorithm=IMAGES, hidden=(), length=128)
        if isinstance(spec.action_space, Box):
            return cls(normalize_obs=True, normalize_reward=True)
        return cls(algorithm=DISCRETE, length=32)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        batch = num_envs * self.length
        if batch % self.algorithm.minibatches:
            raise ConfigError(
                f"{num_envs} environments x {self.length} steps do not divide into "
                f"{self.algorithm.minibatches} minibatches; change --num-envs or --length."
            )
        critic = Value(spec.observation_space, orthogonal_torso(self.hidden, jnp.tanh))
        algorithm = self.algorithm.replace(
            actor=self.actor(spec), critic=critic, anneal_updates=steps // batch * self.anneal
        )
        return self.on_policy(algorithm)

    def actor(self, spec: EnvSpec) -> Model:
        """The policy network for the action space."""
        space, actions, torso = (
            spec.observation_space,
            spec.action_space,
            orthogonal_torso(self.hidden, jnp.tanh),
        )
        if isinstance(actions, Box):
            return NormalPolicy(space, actions.shape[-1], torso)
        assert isinstance(actions, Discrete | MultiDiscrete)
        return CategoricalPolicy(space, actions, torso)
