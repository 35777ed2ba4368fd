"""SAC with the SimbaV2 architecture: Lee et al. 2025, arXiv:2502.15280, app. with hyperparameters.

Weights and features lie on the unit sphere; a categorical critic with scaled rewards, two updates
per step, and a learning rate that falls to half.

These learning rates are for 512 units. With 64 units, larger ones learn faster: `--width 64
--actor-width 64 --batch-size 128 --learning-rate 5e-4 --critic-learning-rate 1e-3` on HalfCheetah.
"""

from dataclasses import dataclass
from typing import Any

import optax

from parl.algorithms.sac import SAC
from parl.core.bound import bound
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import Ensemble
from parl.models.control import Critic, SquashedNormalPolicy
from parl.models.torsos import SimBaV2, SimBaV2Head
from parl.recipes.shared.control import ScaledRecipe, for_horizon
from parl.recipes.simba import PAPER  # the same


@dataclass(frozen=True)
class SimBaV2Recipe(ScaledRecipe):
    """SAC with hyperspherical networks."""

    algorithm: SAC = PAPER
    width: int = 512  # of the critics
    blocks: int = 2
    actor_width: int = 128
    actor_blocks: int = 1
    updates: int = 16
    normalize_obs: bool = True

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> SAC:
        return for_horizon(PAPER, spec)

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space, torso = spec.observation_space, SimBaV2(self.actor_width, self.actor_blocks)
        head = bound(SimBaV2Head, width=self.actor_width)
        actor = SquashedNormalPolicy(space, spec.action.shape[-1], torso, head)
        torso, head = SimBaV2(self.width, self.blocks), bound(SimBaV2Head, width=self.width)
        critic = Critic(space, torso, self.bins, self.histogram, head)
        return actor, Ensemble(critic, self.num_critics)

    @property
    def final_rate(self) -> float:
        return 0.5

    def optimizer(self, updates: int) -> Any:
        return bound(halving_adam, updates=max(updates, 1))


def halving_adam(rate: Any, updates: int) -> optax.GradientTransformation:
    """Adam whose rate falls linearly to half."""
    return optax.adam(optax.linear_schedule(rate, rate / 2, updates))
