"""Implicit Q-learning as in Kostrikov et al. 2021, app. B, for locomotion.

For AntMaze the paper has an expectile of 0.9 and an inverse temperature of 10. Rewards are as they
are in the data; the paper scales them by 1,000 over the range of returns. The actor's rate falls
linearly, in the paper as a cosine.
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
