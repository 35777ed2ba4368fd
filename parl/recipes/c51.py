"""C51: a histogram of the return over 51 values. Bellemare et al. 2017, arXiv:1707.06887.

The values must hold the discounted returns: -100 .. 100 for vectors, which holds rewards up to 1 at
a discount of 0.99, and the paper's -10 .. 10 for images with clipped rewards. Elsewhere set
--value-min and --value-max, or --normalize-reward and a few units. Other settings are DQN's.
"""

from dataclasses import dataclass

from parl.algorithms.dqn import DQN
from parl.recipes.dqn import DQNRecipe


@dataclass(frozen=True)
class C51Recipe(DQNRecipe):
    """DQN with a categorical distribution of the return, for discrete actions."""

    values: str = "categorical"

    @classmethod
    def variant(cls, algorithm: DQN) -> DQN:
        return algorithm.replace(double=False)
