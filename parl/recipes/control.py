"""What the recipes of continuous control have in common."""

from dataclasses import dataclass
from typing import ClassVar

from parl.core.spec import Box
from parl.recipes.base import OffPolicyRecipe


@dataclass(frozen=True)
class ControlRecipe(OffPolicyRecipe):
    """Settings of off-policy actor-critics. Steps and updates come in bursts of `length`."""

    serves: ClassVar[tuple[type, ...]] = (Box,)
    derived: ClassVar[tuple[str, ...]] = ("noise", "optimizer")

    length: int = 8
    updates: int = 8
    warmup: int = 5_000
