"""REINFORCE on rollouts long enough for complete episodes, with our own settings."""

from dataclasses import dataclass
from typing import ClassVar, Self

import jax.numpy as jnp

from parl.agents.learner import Learner
from parl.algorithms.pg import PG
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete
from parl.models import orthogonal_torso, policy_head
from parl.models.encoder import is_image
from parl.recipes.base import OnPolicyRecipe

DEFAULT = PG(learning_rate=3e-3)


@dataclass(frozen=True)
class PGRecipe(OnPolicyRecipe):
    """Policy gradient without a critic, for short episodes and any action space."""

    serves: ClassVar[tuple[type, ...]] = (Box, Discrete, MultiDiscrete)

    algorithm: PG = DEFAULT
    hidden: tuple[int, ...] = (64, 64)
    num_envs: int = 8
    length: int = 512

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        hidden = () if is_image(spec.observation_space) else (64, 64)
        return cls(hidden=hidden, normalize_obs=isinstance(spec.action_space, Box))

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        torso = orthogonal_torso(self.hidden, jnp.tanh)
        actor = policy_head(spec.observation_space, spec.action_space, torso)
        return self.on_policy(self.algorithm.replace(actor=actor))
