"""QMIX, VDN and independent Q-learning: one algorithm with three mixers.

Replay holds segments as long as an episode if its length is known and short. Games of a few steps
are explored uniformly throughout, like the two-step game in Rashid et al. 2018, section 5.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import jax

from parl.agents.learner import Learner
from parl.algorithms.qmix import QMIX
from parl.core.model import Model
from parl.core.spec import Discrete, EnvSpec
from parl.models import MLP, DiscreteValues
from parl.models.mixers import Independent, QMixer, Sum
from parl.recipes.base import OffPolicyRecipe
from parl.recipes.shared.memory import with_memory
from parl.recipes.shared.multi_agent import SharedRecipe, usual_discount, usual_sharing

FEW_STEPS = 4
SHORT = QMIX(learning_rate=3e-3, target_period=50, epsilon_end=1.0, huber_delta=1e3)
LONG = QMIX(learning_rate=1e-3, target_period=200, epsilon_steps=100_000, huber_delta=1e3)


@dataclass(frozen=True)
class QMIXRecipe(SharedRecipe, OffPolicyRecipe):
    """Double Q-learning with a monotone mixing network, for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = (
        "anneal_updates",
        "n_step",
        "priority",
        "her",
        "her_share",
    )

    algorithm: QMIX = LONG
    hidden: tuple[int, ...] = (64, 64)
    recurrent: str = "none"  # or gru, lstm, lru
    memory_size: int = 64  # features of the cell
    agent_id: bool = True
    num_envs: int = 8
    length: int = 25
    updates: int = 4
    batch_size: int = 32  # segments
    warmup: int = 5_000
    capacity: int = 5_000  # segments
    anneal: bool = False  # the learning rate falls linearly to 0 at the end of the run

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        sharing, steps = usual_sharing(spec), spec.max_steps or 100
        if steps > FEW_STEPS:
            return cls(
                algorithm=LONG.replace(gamma=usual_discount(spec)),
                sharing=sharing,
                hidden=(128, 128),
                length=min(steps, 50),
                anneal=True,
                normalize_reward=True,
            )
        return cls(
            algorithm=SHORT, sharing=sharing, num_envs=32, length=steps, updates=1, warmup=500
        )

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        algorithm = self.algorithm.replace(
            q=self.agents(spec, lambda space: self.network(space, spec)),
            mixer=self.mixer(),
            anneal_updates=self.total_updates(steps, num_envs) * self.anneal,
        )
        return self.off_policy(algorithm, spec.groups)

    def network(self, space: Any, spec: EnvSpec) -> Model:
        """One agent's values."""
        actions: Any = spec.action_space
        torso, head = MLP(self.hidden, jax.nn.relu), partial(value_head, actions.n)
        return with_memory(space, torso, head, self.recurrent, self.memory_size)

    def mixer(self) -> Model:
        """The mixer of the agents' values."""
        return QMixer()


def value_head(
    num_actions: int, space: Any, torso: MLP, layer_norm: bool = False
) -> DiscreteValues:
    """Values of all actions."""
    return DiscreteValues(space, num_actions, torso, layer_norm=layer_norm)


@dataclass(frozen=True)
class VDNRecipe(QMIXRecipe):
    """Double Q-learning of the sum of the agents' values, for discrete actions."""

    def mixer(self) -> Model:
        return Sum()


@dataclass(frozen=True)
class IQLRecipe(QMIXRecipe):
    """Independent double Q-learning of each agent, for discrete actions."""

    def mixer(self) -> Model:
        return Independent()
