"""Base of the recipes for continuous control whose networks may have memory."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from parl.agents.learner import OffPolicy
from parl.algorithms.wrappers.remembering import Remembering
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import MLP
from parl.models.histories import WithHistory
from parl.recipes.shared.control import ControlRecipe
from parl.recipes.shared.memory import Head, windows_of, with_memory

# what recipes that inherit from one with memory, but learn without, leave out
MEMORY_SETTINGS = ("recurrent", "memory_size", "window", "burn_in")


@dataclass(frozen=True)
class HistoryRecipe(ControlRecipe):
    """Settings of actor-critics that are recurrent or not; the cell comes before the torso.

    With a cell, a batch is as many windows as hold `batch_size` steps to learn from.
    """

    recurrent: str = "none"  # or gru, lstm, lru: the cells of actor and critic
    memory_size: int = 64  # features of the cell
    window: int = 30
    burn_in: int = 10

    @property
    def remembers(self) -> bool:
        """Whether the networks have memory."""
        return self.recurrent != "none"

    def pair(self, spec: EnvSpec, torso: MLP, actor: Head, critic: Head) -> tuple[Model, Model]:
        """(actor, critic) of heads over a torso, behind cells of their own if there are any."""
        space = spec.observation_space
        if not self.remembers:
            return actor(space, torso), critic(space, torso)

        def network(head: Head, name: str, ahead: int) -> Model:
            behind = lambda space, _: head(space, torso)
            cell = self.recurrent, self.memory_size
            return WithHistory(with_memory(space, MLP(()), behind, *cell), name, ahead)

        return network(actor, "actor", 0), network(critic, "critic", 1)

    def remembering(self, algorithm: Algorithm) -> Algorithm:
        return Remembering(algorithm) if self.remembers else algorithm

    def sampled(self, replay: Any) -> Any:
        if not self.remembers:
            return super().sampled(replay)
        if self.n_step > 1:
            raise ConfigError(
                f"networks with memory learn from returns of one step, not of {self.n_step}; leave "
                "out --n-step or --recurrent."
            )
        return windows_of(replay, self.window, self.burn_in)

    def replayed(self, algorithm: Algorithm) -> OffPolicy:
        learner = super().replayed(algorithm)
        if not self.remembers:
            return learner
        windows = self.batch_size // (self.window - self.burn_in)
        return dataclasses.replace(learner, batch_size=max(windows, 1))
