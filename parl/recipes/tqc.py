"""TQC as in Kuznetsov et al. 2020, app. B: five critics of 25 quantiles and three 512-unit layers.

Two quantiles of each are dropped; the paper drops 0 on HalfCheetah and 5 on Hopper.

Narrow critics leave time for more updates: `--hidden 128 128 --num-critics 2 --updates 32
--policy-period 4 --critic-learning-rate 1e-3`, four a step, is the work of 256 units with one, and
learns sooner on HalfCheetah.
"""

from dataclasses import dataclass

from parl.algorithms.tqc import TQC
from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import Ensemble, TanhNormalPolicy
from parl.models.control import Critic
from parl.ops.value_distributions import Quantiles
from parl.recipes.shared.control import ControlRecipe, uniform_torso

PAPER = TQC()
DROPPED = {"HalfCheetah": 0, "Hopper": 5}  # elsewhere 2


@dataclass(frozen=True)
class TQCRecipe(ControlRecipe):
    """Truncated quantile critics."""

    algorithm: TQC = PAPER
    hidden: tuple[int, ...] = (512, 512, 512)  # of the critics
    actor_hidden: tuple[int, ...] = (256, 256)
    num_critics: int = 5
    quantiles: int = 25

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> TQC:
        drop = DROPPED.get(spec.id.partition("-")[0], 2)
        return TQC(target_entropy=-float(spec.action.shape[-1]), drop=drop)

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        if (drop := self.algorithm.drop) >= self.quantiles:
            raise ConfigError(
                f"drop {drop} leaves none of the {self.quantiles} quantiles of a critic; "
                "lower --drop or raise --quantiles."
            )
        space = spec.observation_space
        actor = TanhNormalPolicy(space, spec.action.shape[-1], uniform_torso(self.actor_hidden))
        critic = Critic(space, uniform_torso(self.hidden), self.quantiles, Quantiles)
        return actor, Ensemble(critic, self.num_critics)
