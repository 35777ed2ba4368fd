"""Asynchronous PPO: PPO with V-trace corrections for rollouts of older policies.

The correction is that of Espeholt et al. 2018, arXiv:1802.01561; without lag it changes nothing.
"""

import dataclasses
from dataclasses import dataclass
from typing import Self

from parl.algorithms.ppo import PPO
from parl.core.spec import EnvSpec
from parl.recipes.ppo import CONTINUOUS, PPORecipe

CORRECTED = CONTINUOUS.replace(corrected=True)


@dataclass(frozen=True)
class APPORecipe(PPORecipe):
    """Proximal policy optimisation that tolerates lag, for any action space."""

    algorithm: PPO = CORRECTED

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        recipe = super().for_env(spec)
        return dataclasses.replace(recipe, algorithm=recipe.algorithm.replace(corrected=True))
