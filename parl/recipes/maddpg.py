"""MADDPG with the settings of Lowe et al. 2017, app.: 64 units, batches of 1,024, tau of 0.01.

Learning rates are lower than the paper's 0.01. Every agent has its own critics; agents of the same
role share an actor.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax

from parl.agents.learner import Learner
from parl.algorithms.maddpg import MADDPG
from parl.core.model import Model
from parl.core.spec import Box, Discrete, EnvSpec
from parl.models import MLP, Agents, Critic, DiscreteValues, Ensemble
from parl.models.control import DeterministicPolicy
from parl.recipes.base import OffPolicyRecipe
from parl.recipes.shared.multi_agent import SharedRecipe, usual_sharing

PAPER = MADDPG(
    policy_period=1,
    learning_rate=1e-3,
    critic_learning_rate=1e-3,
    gamma=0.95,
    tau=0.01,
    smoothing=0.0,
)


@dataclass(frozen=True)
class MADDPGRecipe(SharedRecipe, OffPolicyRecipe):
    """Deterministic policies of several agents with centralised critics."""

    serves: ClassVar[tuple[type, ...]] = (Box, Discrete)
    derived: ClassVar[tuple[str, ...]] = ("discrete", "n_step", "priority", "her", "her_share")

    algorithm: MADDPG = PAPER
    hidden: tuple[int, ...] = (64, 64)
    num_critics: int = 1
    num_envs: int = 8
    length: int = 25
    updates: int = 4
    batch_size: int = 256
    warmup: int = 5_000
    capacity: int = 500_000

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        return cls(sharing=usual_sharing(spec), normalize_reward=True)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        actions: Any = spec.action_space
        discrete = isinstance(actions, Discrete)
        size: int = actions.n if discrete else actions.shape[-1]
        torso, count = MLP(self.hidden, jax.nn.relu), spec.agent_shape[0]
        kind: Any = DiscreteValues if discrete else DeterministicPolicy
        algorithm = self.algorithm.replace(
            actor=self.agents(spec, lambda space: kind(space, size, torso)),
            critic=self.critics(spec, torso, size * count),
            discrete=discrete,
        )
        return self.off_policy(algorithm, spec.groups)

    def critics(self, spec: EnvSpec, torso: MLP, size: int) -> Model:
        """Critics of the state and all agents' actions, `size` numbers; one set per agent."""
        space: Any = spec.observation_space
        network = Ensemble(Critic({"state": space["state"]}, torso), self.num_critics)
        count = spec.agent_shape[0]
        return Agents(network, count, tuple(range(count)), sees="state", ahead=1)
