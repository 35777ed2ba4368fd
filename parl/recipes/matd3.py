"""MATD3, Ackermann et al. 2019, arXiv:1910.01465: MADDPG with twin critics, delay and smoothing."""

from dataclasses import dataclass

from parl.algorithms.maddpg import MADDPG
from parl.recipes.maddpg import PAPER, MADDPGRecipe

TWIN = PAPER.replace(policy_period=2, smoothing=0.2)


@dataclass(frozen=True)
class MATD3Recipe(MADDPGRecipe):
    """Deterministic policies of several agents with twin centralised critics."""

    algorithm: MADDPG = TWIN
    num_critics: int = 2
