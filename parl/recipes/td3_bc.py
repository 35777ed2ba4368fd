"""TD3+BC as in Fujimoto and Gu 2021, table 4: normalised observations, rates of 3e-4."""

from dataclasses import dataclass
from typing import ClassVar

from parl.algorithms.td3_bc import TD3BC
from parl.recipes.shared.histories import MEMORY_SETTINGS
from parl.recipes.td3 import TD3Recipe

PAPER = TD3BC()


@dataclass(frozen=True)
class TD3BCRecipe(TD3Recipe):
    """TD3 that stays near the recorded actions."""

    needs_data: ClassVar[bool] = True
    derived: ClassVar[tuple[str, ...]] = MEMORY_SETTINGS

    algorithm: TD3BC = PAPER
    warmup: int = 0
    normalize_obs: bool = True
