"""DQN: on vectors the settings of RL Baselines3 Zoo, on images those of Mnih et al. 2015.

The Zoo's learning rate of 2.3e-3 is lowered to 1e-3.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from parl.agents.learner import Learner
from parl.algorithms.dqn import DQN
from parl.core.spec import Discrete, EnvSpec
from parl.models import MLP, DiscreteValues
from parl.models.encoder import is_image
from parl.recipes.base import OffPolicyRecipe

VECTORS = DQN(
    learning_rate=1e-3,
    target_period=128,  # once a rollout
    epsilon_end=0.04,
    epsilon_steps=8_000,
)
IMAGES = DQN(learning_rate=1e-4, target_period=1_000, epsilon_end=0.01, epsilon_steps=1_000_000)


@dataclass(frozen=True)
class DQNRecipe(OffPolicyRecipe):
    """Double deep Q-network for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)

    algorithm: DQN = VECTORS
    hidden: tuple[int, ...] = (256, 256)
    dueling: bool = False
    length: int = 256
    updates: int = 128
    batch_size: int = 64
    warmup: int = 1_000
    capacity: int = 100_000

    @classmethod
    def for_env(cls, spec: EnvSpec) -> "DQNRecipe":
        if not is_image(spec.observation_space):
            return cls()
        return cls(
            algorithm=IMAGES,
            hidden=(),
            replay_on_host=True,
            length=4,
            updates=1,
            batch_size=32,
            warmup=80_000,
        )

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        torso, actions = MLP(self.hidden, jax.nn.relu), spec.action_space
        assert isinstance(actions, Discrete)
        q = DiscreteValues(spec.observation_space, actions.n, torso, self.dueling)
        return self.off_policy(self.algorithm.replace(q=q))
