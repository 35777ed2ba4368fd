"""Behaviour cloning with the networks of TD3+BC: a deterministic policy for continuous actions.

Choices are cloned by their likelihood. Observations are normalised by the moments of the data.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from parl.agents.learner import Learner
from parl.algorithms.bc import BC
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete
from parl.models import policy_head
from parl.models.control import DeterministicPolicy
from parl.models.mlp import MLP
from parl.recipes.base import OffPolicyRecipe
from parl.recipes.shared.control import uniform_torso

PAPER = BC()


@dataclass(frozen=True)
class BCRecipe(OffPolicyRecipe):
    """Behaviour cloning."""

    serves: ClassVar[tuple[type, ...]] = (Box, Discrete, MultiDiscrete)
    needs_data: ClassVar[bool] = True

    algorithm: BC = PAPER
    hidden: tuple[int, ...] = (256, 256)
    warmup: int = 0
    normalize_obs: bool = True

    @classmethod
    def for_env(cls, spec: EnvSpec) -> "BCRecipe":
        return cls()

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        return self.off_policy(self.cloning(spec))

    def cloning(self, spec: EnvSpec) -> BC:
        """The algorithm with its network."""
        space, actions = spec.observation_space, spec.action_space
        if isinstance(actions, Box):
            actor = DeterministicPolicy(space, actions.shape[-1], uniform_torso(self.hidden))
        else:
            actor = policy_head(space, actions, MLP(self.hidden, jax.nn.relu))
        return self.algorithm.replace(actor=actor)
