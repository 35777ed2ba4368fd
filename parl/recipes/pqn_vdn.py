"""PQN-VDN: Q-learning of the sum of agents' values from fresh rollouts, arXiv:2407.04811."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

from parl.agents.learner import Learner
from parl.algorithms.pqn import PQNVDN
from parl.core.model import Model
from parl.core.spec import Discrete, EnvSpec
from parl.models import DropoutMLP
from parl.models.mixers import Sum
from parl.recipes.base import OnPolicyRecipe
from parl.recipes.qmix import value_head
from parl.recipes.shared.memory import with_memory
from parl.recipes.shared.multi_agent import SharedRecipe, usual_discount, usual_sharing

DEFAULT = PQNVDN(learning_rate=1e-3, epsilon_steps=100_000, epochs=4, minibatches=4)


@dataclass(frozen=True)
class PQNVDNRecipe(SharedRecipe, OnPolicyRecipe):
    """Parallelised Q-learning for a team, for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates",)

    algorithm: PQNVDN = DEFAULT
    hidden: tuple[int, ...] = (128, 128)
    recurrent: str = "none"  # or gru, lstm, lru
    memory_size: int = 64  # features of the cell
    agent_id: bool = True
    num_envs: int = 16
    length: int = 25
    anneal: bool = True  # the learning rate falls linearly to 0 at the end of the run

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        length = min(max(spec.max_steps or 32, 8), 32)
        algorithm, sharing = DEFAULT.replace(gamma=usual_discount(spec)), usual_sharing(spec)
        return cls(algorithm=algorithm, sharing=sharing, length=length, normalize_reward=True)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        self.check_minibatches(num_envs, whole=self.recurrent != "none")
        algorithm = self.algorithm.replace(
            q=self.agents(spec, lambda space: self.network(space, spec)),
            mixer=Sum(),
            anneal_updates=self.total_updates(steps, num_envs) * self.anneal,
        )
        return self.on_policy(algorithm, spec.groups)

    def network(self, space: Any, spec: EnvSpec) -> Model:
        """One agent's values, with layer normalisation instead of a target network."""
        actions: Any = spec.action_space
        torso: Any = DropoutMLP(self.hidden, rate=0.0)
        head: Any = partial(value_head, actions.n)
        return with_memory(space, torso, head, self.recurrent, self.memory_size)
