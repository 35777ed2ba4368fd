"""ES as in Salimans et al. 2017, with small networks and populations.

For continuous actions the policy is linear in normalised observations, which suffices for MuJoCo's
tasks: Mania et al. 2018, arXiv:1803.07055. Swinging up a pendulum needs `hidden` layers. A
generation is `num_envs` episodes of at most `length` steps. All steps of a rollout count as
environment steps, including those after the end of a member's episode, which are not used. If
episodes end early, most steps are of this kind.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import jax.numpy as jnp

from parl.agents.learner import Learner
from parl.algorithms.es import ES
from parl.core.errors import ConfigError
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete
from parl.models import orthogonal_torso, policy_head
from parl.recipes.base import OnPolicyRecipe

DISCRETE = ES(sigma=0.05, learning_rate=0.03)
CONTINUOUS = ES(sigma=0.03, learning_rate=0.02)
LENGTH = 1_000  # where no time limit is known


@dataclass(frozen=True)
class ESRecipe(OnPolicyRecipe):
    """Evolution strategies for any action space."""

    serves: ClassVar[tuple[type, ...]] = (Box, Discrete, MultiDiscrete)

    algorithm: ES = CONTINUOUS
    hidden: tuple[int, ...] = ()
    num_envs: int = 32
    length: int = LENGTH

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        length = spec.max_steps or LENGTH
        if isinstance(spec.action_space, Box):
            return cls(length=length, normalize_obs=True)
        return cls(algorithm=DISCRETE, hidden=(32,), length=length)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        if num_envs < 2:
            raise ConfigError(
                f"es compares the members of a population, which is --num-envs {num_envs}; "
                "it needs at least 2, better 32 and more."
            )
        torso = orthogonal_torso(self.hidden, jnp.tanh)
        actor = policy_head(spec.observation_space, spec.action_space, torso)
        return self.on_policy(self.algorithm.replace(actor=actor))
