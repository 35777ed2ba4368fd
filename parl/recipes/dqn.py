"""DQN: our own settings for vector observations, those of Mnih et al. 2015 for images.

For vectors, errors are squared and gradients are not clipped. With unclipped rewards, a Huber loss
of width 1 or a clipped gradient would give the rare terminal steps too little weight, and values
would drift above 1 / (1 - gamma). Normalised observations, a slowly moving target and a replay
large enough to keep early failures make learning stable.
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
    learning_rate=5e-4,
    target_period=1,
    tau=0.01,
    huber_delta=1e3,
    max_grad_norm=1e6,
    epsilon_end=0.05,
    epsilon_steps=40_000,
)
IMAGES = DQN(learning_rate=1e-4, target_period=1_000, epsilon_end=0.01, epsilon_steps=1_000_000)


@dataclass(frozen=True)
class DQNRecipe(OffPolicyRecipe):
    """Double deep Q-network for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates",)

    algorithm: DQN = VECTORS
    hidden: tuple[int, ...] = (128, 128)
    dueling: bool = False
    length: int = 64
    updates: int = 16
    batch_size: int = 128
    warmup: int = 1_000
    capacity: int = 200_000
    anneal: bool = True  # the learning rate falls linearly to 0 at the end of the run

    @classmethod
    def for_env(cls, spec: EnvSpec) -> "DQNRecipe":
        if not is_image(spec.observation_space):
            return cls(normalize_obs=True)
        return cls(
            algorithm=IMAGES,
            hidden=(),
            replay_on_host=True,
            capacity=100_000,
            length=4,
            updates=1,
            batch_size=32,
            warmup=80_000,
        )

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        torso, actions = MLP(self.hidden, jax.nn.relu), spec.action_space
        assert isinstance(actions, Discrete)
        q = DiscreteValues(spec.observation_space, actions.n, torso, self.dueling)
        updates = self.total_updates(steps, num_envs) * self.anneal
        return self.off_policy(self.algorithm.replace(q=q, anneal_updates=updates))
