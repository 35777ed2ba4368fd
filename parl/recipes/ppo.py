"""PPO with settings by kind of environment.

Discrete actions on vectors: those of RL Baselines3 Zoo for CartPole, with 8 epochs of 2 minibatches
instead of 20 of 1, which is as good there and faster. Images: those of RL Baselines3 Zoo for Atari.
Continuous actions: those of CleanRL for MuJoCo.
"""

from dataclasses import dataclass
from typing import Self

from parl.agents.learner import Learner
from parl.algorithms.ppo import PPO
from parl.core.spec import Box, EnvSpec
from parl.models.encoder import is_image
from parl.recipes.shared.actor_critic import FOR_IMAGES, ActorCriticRecipe

DISCRETE = PPO(epochs=8, minibatches=2, learning_rate=1e-3, gamma=0.98, lambda_=0.8)
IMAGES = PPO(epochs=4, minibatches=4, learning_rate=2.5e-4, clip=0.1, entropy_cost=0.01)
CONTINUOUS = PPO(epochs=10, minibatches=32, learning_rate=3e-4)


@dataclass(frozen=True)
class PPORecipe(ActorCriticRecipe):
    """Proximal policy optimisation for any action space."""

    algorithm: PPO = CONTINUOUS
    num_envs: int = 8
    length: int = 256

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if is_image(spec.observation_space):
            return cls(algorithm=IMAGES, **FOR_IMAGES, length=128)
        if isinstance(spec.action_space, Box):
            return cls(normalize_obs=True, normalize_reward=True)
        return cls(algorithm=DISCRETE, length=32)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        self.check_minibatches(num_envs, whole=self.recurrent != "none")
        return super().learner(spec, steps, num_envs)
