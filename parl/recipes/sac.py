"""SAC as in Haarnoja et al. 2018: two 256-unit layers, two critics, one update per step.

Orthogonal weights and a target entropy of half the action dimensions come from jaxrl, a reference
implementation on JAX; the learning rate of critics and temperature is CleanRL's. At the actor's
rate the temperature would take some 15,000 updates to fall from 1. With a low initial temperature
instead, one seed in three never leaves a poor gait on HalfCheetah.
"""

from dataclasses import dataclass

import jax

from parl.algorithms.sac import SAC
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import Critic, Ensemble, TanhNormalPolicy, orthogonal_torso
from parl.recipes.shared.histories import HistoryRecipe
from parl.recipes.shared.memory import Head

SETTINGS = SAC(critic_learning_rate=1e-3)


@dataclass(frozen=True)
class SACRecipe(HistoryRecipe):
    """Soft actor-critic for continuous control."""

    algorithm: SAC = SETTINGS
    hidden: tuple[int, ...] = (256, 256)
    num_critics: int = 2

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> SAC:
        return SETTINGS.replace(target_entropy=-spec.action.shape[-1] / 2)

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        size, count = spec.action.shape[-1], self.num_critics
        actor: Head = lambda space, torso: TanhNormalPolicy(space, size, torso)
        critic: Head = lambda space, torso: Ensemble(Critic(space, torso), count)
        return self.pair(spec, orthogonal_torso(self.hidden, jax.nn.relu), actor, critic)
