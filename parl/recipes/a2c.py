"""A2C with the settings of RL Baselines3 Zoo for CartPole, Atari and MuJoCo."""

from dataclasses import dataclass
from typing import Self

from parl.algorithms.a2c import A2C
from parl.core.spec import Box, EnvSpec
from parl.models.encoder import is_image
from parl.recipes.shared.actor_critic import FOR_IMAGES, ActorCriticRecipe

DISCRETE = A2C()
IMAGES = A2C(entropy_cost=0.01, value_cost=0.25)
CONTINUOUS = A2C(learning_rate=9.6e-4, lambda_=0.9, value_cost=0.4)


@dataclass(frozen=True)
class A2CRecipe(ActorCriticRecipe):
    """Advantage actor-critic for any action space."""

    algorithm: A2C = DISCRETE
    num_envs: int = 8
    length: int = 5

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if is_image(spec.observation_space):
            return cls(algorithm=IMAGES, **FOR_IMAGES, num_envs=16)
        if isinstance(spec.action_space, Box):
            return cls(
                algorithm=CONTINUOUS,
                num_envs=4,
                length=8,
                normalize_obs=True,
                normalize_reward=True,
            )
        return cls()
