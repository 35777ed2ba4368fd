"""Munchausen DQN with the constants of Vieillard et al. 2020, arXiv:2007.14430.

The temperature of 0.03 is meant for rewards of the size 1. With --values implicit it is M-IQN.
Other settings are DQN's.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from parl.algorithms.dqn import DQN
from parl.algorithms.munchausen import Munchausen
from parl.recipes.dqn import DQNRecipe

PAPER = Munchausen()


@dataclass(frozen=True)
class MunchausenRecipe(DQNRecipe):
    """DQN with the log-probability of the action in its reward, for discrete actions."""

    derived: ClassVar[tuple[str, ...]] = (*DQNRecipe.derived, "double")  # its target is soft

    algorithm: Munchausen = PAPER

    @classmethod
    def variant(cls, algorithm: DQN) -> Munchausen:
        shared = {f.name: getattr(algorithm, f.name) for f in dataclasses.fields(algorithm)}
        return Munchausen(**shared)
