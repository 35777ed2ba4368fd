"""IMPALA: rollout length and loss weights of Espeholt et al. 2018, our own learning rates.

Losses are means over the rollout, not sums, so the paper's gradient clip does not apply. For images
the loss weights and the learning rate are our own too, and RMSProp's epsilon is tiny: the actor's
gradient, clipped together with that of the values, is smaller than the paper's epsilon of 0.1.
"""

from dataclasses import dataclass
from typing import Self

from parl.algorithms.impala import IMPALA
from parl.core.spec import Box, EnvSpec
from parl.models.encoder import is_image
from parl.recipes.shared.actor_critic import FOR_IMAGES, ActorCriticRecipe

DISCRETE = IMPALA(learning_rate=2e-3)
CONTINUOUS = IMPALA()
IMAGES = IMPALA(learning_rate=3e-4, entropy_cost=0.005, value_cost=0.25, rms_epsilon=1e-10)


@dataclass(frozen=True)
class IMPALARecipe(ActorCriticRecipe):
    """Actor-critic with V-trace for any action space."""

    algorithm: IMPALA = DISCRETE
    num_envs: int = 8
    length: int = 20

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if is_image(spec.observation_space):
            return cls(algorithm=IMAGES, anneal=False, length=10, **FOR_IMAGES)
        if isinstance(spec.action_space, Box):
            return cls(algorithm=CONTINUOUS, normalize_obs=True, normalize_reward=True)
        return cls()
