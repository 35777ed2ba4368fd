"""REDQ as in Chen et al. 2021, app. B: ten critics, targets of two, 20 updates per step.

A target entropy of half the action dimensions is that of the paper (MBPO's) on HalfCheetah,
Walker2d and Ant; on Hopper it has -1, on Humanoid -2.
"""

from dataclasses import dataclass

from parl.agents.learner import Learner
from parl.algorithms.redq import REDQ
from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import MLP, Critic, Ensemble, TanhNormalPolicy
from parl.models.control import GLOROT
from parl.recipes.shared.control import ControlRecipe

PAPER = REDQ(policy_period=20)
ENTROPY = {"Hopper": -1.0, "Humanoid": -2.0}


@dataclass(frozen=True)
class REDQRecipe(ControlRecipe):
    """Randomised ensembled double Q-learning."""

    algorithm: REDQ = PAPER
    hidden: tuple[int, ...] = (256, 256)
    num_critics: int = 10
    length: int = 1
    updates: int = 20

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> REDQ:
        entropy = ENTROPY.get(spec.id.partition("-")[0], -spec.action.shape[-1] / 2)
        return PAPER.replace(target_entropy=entropy)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        if (subset := self.algorithm.subset) > self.num_critics:
            raise ConfigError(
                f"subset {subset} critics cannot be drawn from num_critics {self.num_critics}; "
                "lower --subset or raise --num-critics."
            )
        return super().learner(spec, steps, num_envs)

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space, torso = spec.observation_space, MLP(self.hidden, kernel_init=GLOROT)
        actor = TanhNormalPolicy(space, spec.action.shape[-1], torso)
        return actor, Ensemble(Critic(space, torso), self.num_critics)
