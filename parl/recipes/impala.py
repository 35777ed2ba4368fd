"""IMPALA: rollouts of 20 steps and the costs of Espeholt et al. 2018; learning rates of our own.

Losses are means over the rollout, not sums, so that the paper's gradient clip does not carry over.
Its 0.1 below RMSProp's root does, divided by the square of the 640 steps that the sums were over.
"""

from dataclasses import dataclass
from typing import Self

from parl.algorithms.impala import IMPALA
from parl.core.spec import Box, EnvSpec
from parl.models.encoder import is_image
from parl.recipes.actor_critic import ActorCriticRecipe

DISCRETE = IMPALA(learning_rate=2e-3)
CONTINUOUS = IMPALA()
IMAGES = IMPALA(learning_rate=6e-4, entropy_cost=0.01, rms_epsilon=0.1 / 640**2)


@dataclass(frozen=True)
class IMPALARecipe(ActorCriticRecipe):
    """Actor-critic with V-trace for any action space."""

    algorithm: IMPALA = DISCRETE
    num_envs: int = 8
    length: int = 20

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if is_image(spec.observation_space):
            return cls(algorithm=IMAGES, hidden=(), share_encoder=True, num_envs=32)
        if isinstance(spec.action_space, Box):
            return cls(algorithm=CONTINUOUS, normalize_obs=True, normalize_reward=True)
        return cls()
