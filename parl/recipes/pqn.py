"""PQN for one agent: Q-learning on lambda returns without replay, arXiv:2407.04811.

The layer normalisation stands in for the target network, in every layer but the last. For images
network and settings are the authors' for MinAtar, with the rate of exploration at its end after a
million steps, a tenth of their runs; for vectors there are fewer environments, as there are fewer
steps.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

from parl.agents.learner import Learner
from parl.algorithms.pqn import PQN
from parl.core.spec import Discrete, EnvSpec
from parl.models import DropoutMLP
from parl.models.encoder import is_image
from parl.recipes.base import OnPolicyRecipe
from parl.recipes.qmix import value_head
from parl.recipes.shared.memory import with_memory

VECTORS = PQN(learning_rate=5e-4, epsilon_steps=100_000, epochs=4, minibatches=8)
IMAGES = PQN(learning_rate=5e-4, epsilon_steps=1_000_000, epochs=2, minibatches=32)


@dataclass(frozen=True)
class PQNRecipe(OnPolicyRecipe):
    """Parallelised Q-network for discrete actions, without replay."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates",)

    algorithm: PQN = VECTORS
    hidden: tuple[int, ...] = (128, 128)
    recurrent: str = "none"  # or gru, lstm, lru
    memory_size: int = 64  # features of the cell
    num_envs: int = 16
    length: int = 64
    anneal: bool = True  # the learning rate falls linearly to 0 at the end of the run

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if is_image(spec.observation_space):
            return cls(algorithm=IMAGES, hidden=(), num_envs=128, length=32)
        return cls()

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        self.check_minibatches(num_envs, whole=self.recurrent != "none")
        actions: Any = spec.action_space
        torso: Any = DropoutMLP(self.hidden, rate=0.0)
        head: Any = partial(value_head, actions.n, layer_norm=True)
        sizes = self.recurrent, self.memory_size
        q = with_memory(spec.observation_space, torso, head, *sizes, layer_norm=True)
        updates = self.total_updates(steps, num_envs) * self.anneal
        return self.on_policy(self.algorithm.replace(q=q, anneal_updates=updates))
