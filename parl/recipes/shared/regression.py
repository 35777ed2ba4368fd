"""Base of the recipes whose policy is regressed on the actions of a data set.

Observations are normalised by the moments of the data, as where the published rows of these
algorithms were reproduced (CORL).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import jax

from parl.agents.learner import Learner
from parl.core.settings import Setting
from parl.core.spec import Box, EnvSpec
from parl.models import MLP, Critic, Ensemble, orthogonal_torso
from parl.models.control import BoundedNormalPolicy
from parl.recipes.base import OffPolicyRecipe

ANNEAL = Setting("The actor's learning rate falls to 0 by half a cosine until the run ends.")


@dataclass(frozen=True)
class RegressionRecipe(OffPolicyRecipe):
    """Settings of advantage-weighted regression."""

    serves: ClassVar[tuple[type, ...]] = (Box,)
    needs_data: ClassVar[bool] = True
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates",)

    hidden: tuple[int, ...] = (256, 256)
    num_critics: int = 2
    warmup: int = 0
    anneal: bool = field(default=True, metadata={"setting": ANNEAL})
    normalize_obs: bool = True

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        return cls(cls.algorithm)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        updates = self.total_updates(steps, num_envs) * self.anneal
        return self.off_policy(
            self.algorithm.replace(anneal_updates=updates, **self.networks(spec))
        )

    def networks(self, spec: EnvSpec) -> dict[str, Any]:
        """The networks by their fields."""
        space, torso = spec.observation_space, self.torso
        return {
            "actor": BoundedNormalPolicy(space, spec.action.shape[-1], torso),
            "critic": Ensemble(Critic(space, torso), self.num_critics),
        }

    @property
    def torso(self) -> MLP:
        """The body of each network."""
        return orthogonal_torso(self.hidden, jax.nn.relu)
