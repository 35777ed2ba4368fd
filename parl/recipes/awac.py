"""AWAC, Nair et al. 2020, with the settings of CORL for locomotion: three layers, lambda 1 / 3.

Weights are clipped at 100 in place of a softmax over the batch.
"""

from dataclasses import dataclass

from parl.algorithms.awac import AWAC
from parl.recipes.shared.regression import RegressionRecipe

PAPER = AWAC(inverse_temperature=3.0)


@dataclass(frozen=True)
class AWACRecipe(RegressionRecipe):
    """Advantage-weighted actor-critic."""

    algorithm: AWAC = PAPER
    hidden: tuple[int, ...] = (256, 256, 256)
    anneal: bool = False
