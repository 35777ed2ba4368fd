"""OAC with the settings of Ciosek et al. 2019, app. E, and of its authors' code."""

from dataclasses import dataclass

from parl.algorithms.oac import OAC
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import Critic, Ensemble, TanhNormalPolicy
from parl.recipes.shared.control import ControlRecipe, uniform_torso

PAPER = OAC()


@dataclass(frozen=True)
class OACRecipe(ControlRecipe):
    """Optimistic actor-critic."""

    algorithm: OAC = PAPER
    hidden: tuple[int, ...] = (256, 256)
    warmup: int = 10_000

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> OAC:
        return OAC(target_entropy=-float(spec.action.shape[-1]))

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space, torso = spec.observation_space, uniform_torso(self.hidden)
        actor = TanhNormalPolicy(space, spec.action.shape[-1], torso)
        return actor, Ensemble(Critic(space, torso), 2)
