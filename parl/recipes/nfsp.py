"""NFSP, Heinrich and Silver 2016, arXiv:1603.01121, with double Q-learning as the response.

The settings are our own: Adam, segments of some steps in replay, and rates that fall to 0.

What differs from the paper: the response is double Q-learning whose network may serve both
players, with Adam in place of SGD; many games are played at once; and the reservoir holds 500,000
rows, not two million. The share of play by the response, 0.1, is the paper's.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax

from parl.agents.learner import Learner, OffPolicy
from parl.agents.replay.reservoir import Offered, Reservoir
from parl.agents.replay.ring import Replay
from parl.algorithms.nfsp import NFSP, responses_in
from parl.algorithms.qmix import QMIX
from parl.core.spec import Discrete, EnvSpec
from parl.models import MLP, CategoricalPolicy
from parl.models.mixers import Independent
from parl.recipes.base import OffPolicyRecipe
from parl.recipes.qmix import value_head
from parl.recipes.shared.multi_agent import SharedRecipe, usual_sharing

RESPONSE = QMIX(
    learning_rate=1e-3,
    gamma=1.0,
    target_period=300,
    epsilon_start=0.1,
    epsilon_end=0.0,
    epsilon_steps=2_000_000,
    huber_delta=1e3,
)


@dataclass(frozen=True)
class NFSPRecipe(SharedRecipe, OffPolicyRecipe):
    """Q-learning of best responses, and their average from a reservoir, for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = (
        *("anneal_updates", "n_step", "priority", "replay_on_host"),
        *("normalize_obs", "normalize_reward", "her", "her_share"),
    )
    takes_data: ClassVar[bool] = False

    algorithm: QMIX = RESPONSE
    hidden: tuple[int, ...] = (64, 64)
    num_envs: int = 64
    length: int = 16
    updates: int = 4
    batch_size: int = 32  # segments
    warmup: int = 5_000
    capacity: int = 10_000  # segments
    anneal: bool = True  # the learning rates fall linearly to 0 at the end of the run
    anticipation: float = 0.1
    average_learning_rate: float = 1e-3
    average_batch: int = 256  # rows of the reservoir
    reservoir: int = 500_000  # rows

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        return cls(sharing=usual_sharing(spec))

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        updates = self.total_updates(steps, num_envs) * self.anneal
        torso, actions = MLP(self.hidden, jax.nn.relu), spec.action_space
        assert isinstance(actions, Discrete)
        network = self.agents(spec, lambda space: CategoricalPolicy(space, actions, torso))
        values = self.agents(spec, lambda space: value_head(actions.n, space, torso))
        response = self.algorithm.replace(q=values, mixer=Independent(), anneal_updates=updates)
        nfsp = NFSP(
            response,
            average=network,
            anneal_updates=updates,
            anticipation=self.anticipation,
            average_learning_rate=self.average_learning_rate,
            num_agents=spec.num_agents or 1,
        )
        replay = Reservoir(Replay(self.capacity), offered, self.reservoir, self.average_batch)
        return OffPolicy(nfsp, replay, self.batch_size, self.updates, self.warmup)


def offered(items: Any) -> Offered:
    """What a reservoir may keep of replay's segments."""
    return Offered(*responses_in(items.steps))
