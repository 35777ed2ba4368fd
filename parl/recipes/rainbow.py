"""Rainbow: six additions to DQN, each a switch of `dqn` too. Hessel et al. 2018, arXiv:1710.02298.

Double, dueling, prioritised, three-step, categorical, and noisy layers in place of random actions.
The exponent of the priorities and the steps are the paper's; other settings are DQN's.
"""

from dataclasses import dataclass

from parl.algorithms.dqn import DQN
from parl.recipes.dqn import DQNRecipe


@dataclass(frozen=True)
class RainbowRecipe(DQNRecipe):
    """DQN with dueling, noisy and categorical networks and prioritised n-step replay."""

    dueling: bool = True
    noisy: bool = True
    values: str = "categorical"
    n_step: int = 3
    priority: float = 0.5

    @classmethod
    def variant(cls, algorithm: DQN) -> DQN:
        return algorithm.replace(epsilon_start=0.0, epsilon_end=0.0)
