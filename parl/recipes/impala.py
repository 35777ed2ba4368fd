"""IMPALA: rollouts of 20 steps, as in Espeholt et al. 2018, and the optimiser of our A2C."""

from dataclasses import dataclass
from typing import Self

from parl.algorithms.impala import IMPALA
from parl.core.spec import Box, EnvSpec
from parl.models.encoder import is_image
from parl.recipes.actor_critic import ActorCriticRecipe

VECTORS = IMPALA()
IMAGES = IMPALA(learning_rate=6e-4, entropy_cost=0.01)


@dataclass(frozen=True)
class IMPALARecipe(ActorCriticRecipe):
    """Actor-critic with V-trace for any action space."""

    algorithm: IMPALA = VECTORS
    num_envs: int = 8
    length: int = 20

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if is_image(spec.observation_space):
            return cls(algorithm=IMAGES, hidden=(), num_envs=32)
        normalize = isinstance(spec.action_space, Box)
        return cls(normalize_obs=normalize, normalize_reward=normalize)
