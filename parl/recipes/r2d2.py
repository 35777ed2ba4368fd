"""R2D2 with the parts of Kapturowski et al. 2019 and settings of our own.

Dueling networks, prioritised windows and values on the scale of a square root are the paper's. For
vectors the network, its learning rate and the slowly moving target are those of `dqn`; windows are
shorter than the paper's 120 steps, as episodes are. Environments explore less and less, as actors
do in the paper.

What differs from the paper: the network does not see the last action and reward, vectors have a
GRU of 64 features in place of an LSTM of 512, priorities have an exponent of 0.6 rather than 0.9,
and on vectors the learning rate falls to 0. Actors and a replay of their own machines are an
execution (`--actors`, `--replay-shards`), not a part of the algorithm.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax

from parl.agents.learner import Learner
from parl.algorithms.r2d2 import R2D2
from parl.core.spec import Discrete, EnvSpec
from parl.models import MLP, DiscreteValues
from parl.models.encoder import is_image
from parl.recipes.base import OffPolicyRecipe
from parl.recipes.shared.memory import Head, windows_of, with_memory

VECTORS = R2D2(
    learning_rate=5e-4,
    target_period=1,
    tau=0.01,
    huber_delta=1e3,
    max_grad_norm=40.0,
    epsilon_end=0.1,
    epsilon_steps=30_000,
    epsilon_spread=3.0,
)
IMAGES = VECTORS.replace(
    learning_rate=1e-4,
    target_period=2_500,
    tau=1.0,
    epsilon_end=0.4,
    epsilon_steps=1_000_000,
    epsilon_spread=7.0,
    gamma=0.997,
)


@dataclass(frozen=True)
class R2D2Recipe(OffPolicyRecipe):
    """Recurrent Q-network on windows of replay, for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates", "horizon")

    algorithm: R2D2 = VECTORS
    hidden: tuple[int, ...] = (128,)
    dueling: bool = True
    recurrent: str = "gru"  # or lstm, lru, none
    memory_size: int = 64  # features of the cell
    window: int = 30
    burn_in: int = 10
    n_step: int = 5
    priority: float = 0.6
    num_envs: int = 8
    length: int = 32  # at least a window, so that asynchronous rollouts hold some
    updates: int = 32
    batch_size: int = 32  # windows
    warmup: int = 1_000
    capacity: int = 100_000
    anneal: bool = True  # the learning rate falls linearly to 0 at the end of the run

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if not is_image(spec.observation_space):
            return cls(normalize_obs=True)
        return cls(
            algorithm=IMAGES,
            hidden=(),
            recurrent="lstm",
            memory_size=512,
            window=80,
            burn_in=40,
            replay_on_host=True,
            warmup=80_000,
            anneal=False,
        )

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        algorithm = self.algorithm.replace(
            q=self.network(spec),
            horizon=self.n_step,
            anneal_updates=self.total_updates(steps, num_envs) * self.anneal,
        )
        return self.off_policy(algorithm)

    def network(self, spec: EnvSpec) -> Any:
        """The network of values."""
        actions: Any = spec.action_space
        torso = MLP(self.hidden, jax.nn.relu)
        head: Head = lambda space, torso: DiscreteValues(
            space, actions.n, torso, dueling=self.dueling
        )
        return with_memory(spec.observation_space, torso, head, self.recurrent, self.memory_size)

    def sampled(self, replay: Any) -> Any:
        return windows_of(replay, self.window, self.burn_in)
