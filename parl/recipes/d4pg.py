"""D4PG: a deterministic policy with a categorical critic and five-step returns, arXiv:1804.08617.

Barth-Maron et al. 2018 choose the range of returns by the task. Here rewards are scaled to keep
returns within a bound, so that one range serves all, and replay is uniform.
"""

from dataclasses import dataclass

from parl.algorithms.td3 import TD3
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import Critic, Ensemble
from parl.models.control import DeterministicPolicy
from parl.recipes.shared.control import ScaledRecipe, uniform_torso

PAPER = TD3(policy_period=1, smoothing=0.0, exploration=0.3)


@dataclass(frozen=True)
class D4PGRecipe(ScaledRecipe):
    """Distributed distributional deterministic policy gradient."""

    algorithm: TD3 = PAPER
    hidden: tuple[int, ...] = (256, 256)
    num_critics: int = 1
    bins: int = 51
    n_step: int = 5

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space, torso = spec.observation_space, uniform_torso(self.hidden)
        actor = DeterministicPolicy(space, spec.action.shape[-1], torso)
        critic = Critic(space, torso, self.bins, self.histogram)
        return actor, Ensemble(critic, self.num_critics)
