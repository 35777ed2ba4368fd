"""OAC with the settings of Ciosek et al. 2019, app. E, and of its authors' code."""

from dataclasses import dataclass
from typing import Self

from parl.algorithms.oac import OAC
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import ActionValue, Ensemble, TanhNormalPolicy
from parl.recipes.shared.control import ControlRecipe, has_short_episodes, uniform_torso

PAPER = OAC()


@dataclass(frozen=True)
class OACRecipe(ControlRecipe):
    """Optimistic actor-critic."""

    algorithm: OAC = PAPER
    hidden: tuple[int, ...] = (256, 256)
    warmup: int = 10_000

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        algorithm = OAC(target_entropy=-spec.action.shape[-1])
        return cls(algorithm, warmup=1_000 if has_short_episodes(spec) else 10_000)

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space, torso = spec.observation_space, uniform_torso(self.hidden)
        actor = TanhNormalPolicy(space, spec.action.shape[-1], torso)
        return actor, Ensemble(ActionValue(space, torso), 2)
