"""Gumbel AlphaZero, with few simulations, as in Danihelka et al. 2022, section 5.

Rollouts are longer than games where their length is known, so that most moves learn from how their
game ended.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax

from parl.agents.learner import Learner
from parl.algorithms.az import AZ
from parl.core.model import Model
from parl.core.spec import Box, Discrete, EnvSpec
from parl.models import PolicyValue
from parl.models.heads import orthogonal_torso
from parl.recipes.base import OffPolicyRecipe

SETTINGS = AZ()
LONG = 128  # moves of a rollout where games may be long


@dataclass(frozen=True)
class AZRecipe(OffPolicyRecipe):
    """Gumbel AlphaZero, for games of two players whose rules are known."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("n_step", "priority", "her", "her_share")
    multi_agent: ClassVar[bool] = True
    needs_simulator: ClassVar[bool] = True
    takes_data: ClassVar[bool] = False
    opponent: ClassVar[str] = "self"

    algorithm: AZ = SETTINGS
    hidden: tuple[int, ...] = (128, 128)
    num_envs: int = 64
    length: int = 32
    updates: int = 16
    batch_size: int = 256
    warmup: int = 0
    capacity: int = 50_000  # moves

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        return cls(length=min(2 * (spec.max_steps or LONG), LONG))

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        model, simulator = self.network(spec), spec.simulator
        return self.off_policy(self.algorithm.replace(model=model, simulator=simulator))

    def network(self, spec: EnvSpec) -> Model:
        """The network of what one player sees."""
        space: Any = spec.observation_space
        actions: Any = spec.action_space
        seen = {"view": Box(space["view"].shape[1:])}
        return PolicyValue(seen, actions, orthogonal_torso(self.hidden, jax.nn.relu))
