"""RLPD as in Ball et al. 2023: many layer-normalised critics, half of each batch from data.

`parl train rlpd --data DIR --env ID --steps 0 --online-steps N` learns online from the start, as
the paper does. Its 20 updates per step are for sample efficiency. Its code takes 5,000 random steps
first (--warmup 5000), and leaves the entropy out of targets for sparse rewards
(--no-entropy-backup).
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from parl.algorithms.redq import REDQ
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import MLP, Critic, Ensemble, TanhNormalPolicy
from parl.models.control import GLOROT
from parl.recipes.redq import REDQRecipe

PAPER = REDQ(policy_period=20)


@dataclass(frozen=True)
class RLPDRecipe(REDQRecipe):
    """Reinforcement learning with prior data."""

    needs_data: ClassVar[bool] = True

    algorithm: REDQ = PAPER
    warmup: int = 0

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> REDQ:
        return PAPER.replace(target_entropy=-spec.action.shape[-1] / 2)

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space = spec.observation_space
        actor = TanhNormalPolicy(space, spec.action.shape[-1], MLP(self.hidden, kernel_init=GLOROT))
        normalised = MLP(self.hidden, jax.nn.relu, GLOROT, layer_norm=True)
        return actor, Ensemble(Critic(space, normalised), self.num_critics)
