"""TD-MPC2 as in Hansen et al. 2024, app. H, with networks of 128 units in place of 512.

Rewards and values are histograms of 101 values, evenly spaced in symlog.

What differs from the paper: one task at a time, without task embeddings. Critics have no dropout.
Episodes that terminate are not modelled: plans go on as if they did not.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from parl.agents.learner import Learner
from parl.agents.replay.segments import Segments
from parl.algorithms.tdmpc2 import TDMPC2
from parl.core.bound import bound
from parl.core.errors import ConfigError
from parl.core.spec import Box, EnvSpec
from parl.models import MLP, Critic, Ensemble
from parl.models.control import SquashedNormalPolicy
from parl.models.simplices import GROUP, FromZero, Latent, mish
from parl.ops.value_distributions import SymlogTwoHot
from parl.recipes.base import OffPolicyRecipe
from parl.recipes.shared.control import horizon_gamma

SETTINGS = TDMPC2()
FIRST_EPISODES = 5  # of random actions
SYMLOG = 10.0  # bound of the histograms


@dataclass(frozen=True)
class TDMPC2Recipe(OffPolicyRecipe):
    """Planning with a learned model, for continuous control."""

    serves: ClassVar[tuple[type, ...]] = (Box,)
    derived: ClassVar[tuple[str, ...]] = ("n_step", "action_size")
    takes_data: ClassVar[bool] = False

    algorithm: TDMPC2 = SETTINGS
    width: int = 128
    latent: int = 128
    num_critics: int = 5
    bins: int = 101
    length: int = 8
    updates: int = 8
    warmup: int = 5_000

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        algorithm = SETTINGS.replace(gamma=horizon_gamma(spec))
        steps = FIRST_EPISODES * (spec.max_steps or 1000)
        return cls(algorithm, warmup=min(max(steps, 1_000), cls.warmup))

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        rule = self.algorithm
        for name in ("elites", "proposals"):
            if (given := getattr(rule, name)) > rule.sequences:
                raise ConfigError(
                    f"{given} {name} are not among {rule.sequences} sequences; set --{name} at "
                    "most as high as --sequences."
                )
        return self.off_policy(rule.replace(**self.networks(spec)))

    def networks(self, spec: EnvSpec) -> dict[str, Any]:
        """The networks by their fields."""
        if self.latent % GROUP:
            raise ConfigError(
                f"latent {self.latent} has to be a multiple of {GROUP}, the features of a simplex."
            )
        torso = lambda layers: MLP((self.width,) * layers, mish, layer_norm=True)
        latent, actions = Box((self.latent,)), spec.action.shape[-1]
        form = bound(SymlogTwoHot, low=-SYMLOG, high=SYMLOG)
        head = Critic(latent, torso(2), self.bins, form, FromZero)
        return {
            "encoder": Latent(spec.observation_space, torso(1), self.latent),
            "dynamics": Latent(latent, torso(2), self.latent),
            "reward": head,
            "critic": Ensemble(head, self.num_critics),
            "actor": SquashedNormalPolicy(latent, actions, torso(2)),
            "action_size": actions,
        }

    def sampled(self, replay: Any) -> Segments:
        return Segments(replay, self.algorithm.horizon)
