"""IQN: quantiles of the return at levels drawn anew. Dabney et al. 2018, arXiv:1806.06923.

Both sides of the loss draw `quantiles` levels, 64 in the paper; a greedy action takes evenly spaced
ones, whose mean has no noise. Rewards are scaled as for QR-DQN; other settings are DQN's.
"""

from dataclasses import dataclass

from parl.recipes.dqn import DQNRecipe


@dataclass(frozen=True)
class IQNRecipe(DQNRecipe):
    """Implicit quantile network for discrete actions."""

    values: str = "implicit"
