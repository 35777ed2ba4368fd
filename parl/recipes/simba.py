"""SAC with the SimBa architecture: Lee et al. 2025, arXiv:2410.09754, app. with hyperparameters.

Observations are normalised by running statistics; two updates per step; weight decay.

These learning rates are for 512 units. With 64 units, larger ones learn faster: `--width 64
--actor-width 64 --learning-rate 5e-4 --critic-learning-rate 1e-3 --gamma 0.99 --initial-temperature
1` on HalfCheetah.
"""

from dataclasses import dataclass
from typing import Any

import optax

from parl.algorithms.sac import SAC
from parl.core.bound import bound
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import Ensemble
from parl.models.control import ORTHOGONAL, Critic, SquashedNormalPolicy
from parl.models.modes import decayed
from parl.models.torsos import SimBa
from parl.recipes.shared.control import ControlRecipe, for_horizon

PAPER = SAC(learning_rate=1e-4, critic_learning_rate=1e-4, initial_temperature=0.01)


@dataclass(frozen=True)
class SimBaRecipe(ControlRecipe):
    """SAC with residual, layer-normalised networks."""

    algorithm: SAC = PAPER
    width: int = 512  # of the critics
    blocks: int = 2
    actor_width: int = 128
    actor_blocks: int = 1
    num_critics: int = 2
    weight_decay: float = 0.01
    updates: int = 16
    normalize_obs: bool = True

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> SAC:
        return for_horizon(PAPER, spec)

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space, torso = spec.observation_space, SimBa(self.actor_width, self.actor_blocks)
        actor = SquashedNormalPolicy(space, spec.action.shape[-1], torso, ORTHOGONAL)
        critic = Critic(space, SimBa(self.width, self.blocks), linear=ORTHOGONAL)
        return actor, Ensemble(critic, self.num_critics)

    def optimizer(self, updates: int) -> Any:
        return bound(optax.adamw, weight_decay=self.weight_decay, mask=decayed)
