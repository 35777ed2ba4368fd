"""CQL as in Kumar et al. 2020, app. F, for locomotion: three layers, a slower policy.

As in its authors' code, targets have no entropy, and as where its published rows were reproduced
(CORL), observations are normalised. The weight of the conservative term stands beside half of the
squared error, so that 5 is the 10 of codes that have the whole of it.
"""

from dataclasses import dataclass
from typing import ClassVar

from parl.algorithms.cql import CQL
from parl.core.spec import EnvSpec
from parl.recipes.sac import SACRecipe
from parl.recipes.shared.histories import MEMORY_SETTINGS

PAPER = CQL(learning_rate=1e-4, critic_learning_rate=3e-4, entropy_backup=False)


@dataclass(frozen=True)
class CQLRecipe(SACRecipe):
    """Conservative Q-learning."""

    needs_data: ClassVar[bool] = True
    derived: ClassVar[tuple[str, ...]] = MEMORY_SETTINGS

    algorithm: CQL = PAPER
    hidden: tuple[int, ...] = (256, 256, 256)
    warmup: int = 0
    normalize_obs: bool = True

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> CQL:
        return PAPER.replace(target_entropy=-float(spec.action.shape[-1]))
