"""QR-DQN: quantiles of the return. Dabney et al. 2018, arXiv:1710.10044.

The paper has 200 quantiles and clipped rewards. Here 16 quantiles and, for vectors, rewards scaled
to returns of unit size: with larger ones the mean of the quantiles misses rare failures, as the
loss is linear beyond errors of 1. Other settings are DQN's, double estimation included, which the
paper does not have.
"""

from dataclasses import dataclass

from parl.recipes.dqn import DQNRecipe


@dataclass(frozen=True)
class QRDQNRecipe(DQNRecipe):
    """Quantile-regression DQN for discrete actions."""

    values: str = "quantile"
