"""AWAC as in Nair et al. 2020, with two layers and batches of 256.

Weights are clipped at 100, as in most implementations, in place of a softmax over the batch.
"""

from dataclasses import dataclass

from parl.algorithms.awac import AWAC
from parl.recipes.shared.regression import RegressionRecipe

PAPER = AWAC()


@dataclass(frozen=True)
class AWACRecipe(RegressionRecipe):
    """Advantage-weighted actor-critic."""

    algorithm: AWAC = PAPER
    anneal: bool = False
