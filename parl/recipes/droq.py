"""DroQ as in Hiraoka et al. 2022: REDQ with two critics of dropout and layer normalisation.

The paper's dropout is 0.01 on Ant, 0.005 on Walker2d, 0.0001 on Hopper and 0.1 on Humanoid.
"""

from dataclasses import dataclass

from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import MLP, Ensemble, TanhNormalPolicy
from parl.models.control import GLOROT, Critic
from parl.models.torsos import DropoutMLP
from parl.recipes.redq import REDQRecipe


@dataclass(frozen=True)
class DroQRecipe(REDQRecipe):
    """Dropout Q-functions."""

    num_critics: int = 2
    dropout: float = 0.01

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space = spec.observation_space
        torso = MLP(self.hidden, kernel_init=GLOROT)
        actor = TanhNormalPolicy(space, spec.action.shape[-1], torso)
        critic = Critic(space, DropoutMLP(self.hidden, self.dropout))
        return actor, Ensemble(critic, self.num_critics)
