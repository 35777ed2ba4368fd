"""QR-DQN: quantiles of the return. Dabney et al. 2018, arXiv:1710.10044.

The paper has 200 quantiles; on small tasks 32 learn as well and sooner. Other settings are DQN's.
"""

from dataclasses import dataclass

from parl.algorithms.dqn import DQN
from parl.recipes.dqn import DQNRecipe


@dataclass(frozen=True)
class QRDQNRecipe(DQNRecipe):
    """Quantile-regression DQN for discrete actions."""

    values: str = "quantile"

    @classmethod
    def variant(cls, algorithm: DQN) -> DQN:
        return algorithm.replace(double=False)
