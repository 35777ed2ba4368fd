"""Implicit Q-learning as in Kostrikov et al. 2021, app. B, for locomotion.

For AntMaze the paper has an expectile of 0.9 and an inverse temperature of 10. The reward's
scale follows from the data, as in the paper's code: returns get a range of 1,000. The actor's rate
falls by half a cosine.
"""

from dataclasses import dataclass
from typing import Any

from parl.algorithms.implicit_q import ImplicitQ
from parl.core.spec import EnvSpec
from parl.models import Value
from parl.recipes.shared.regression import RegressionRecipe

PAPER = ImplicitQ()


@dataclass(frozen=True)
class ImplicitQRecipe(RegressionRecipe):
    """Implicit Q-learning."""

    algorithm: ImplicitQ = PAPER

    def networks(self, spec: EnvSpec) -> dict[str, Any]:
        return super().networks(spec) | {"value": Value(spec.observation_space, self.torso)}
