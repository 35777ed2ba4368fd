"""One of several parts of a replay, each in a process of its own.

A shard knows nothing of the others. What makes one replay of them is in joined.py.
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from parl import ops
from parl.agents.learner import OffPolicy
from parl.agents.replay.hindsight import Hindsight
from parl.agents.replay.priorities import Priorities
from parl.agents.replay.ring import NumpyReplay, Replay, ReplayState
from parl.agents.replay.sampling import NextAction, NStep, Prioritized
from parl.agents.replay.segments import Segments
from parl.core.errors import ConfigError
from parl.core.types import Rollout

USABLE = "usable"  # beside the packed rows
DIVISIBLE = (NStep, NextAction, Segments, Hindsight, Prioritized)


class KnowingReplay(NumpyReplay):
    """Notes of every row when it is written whether it is usable: no draw has to look."""

    def init(self, items: Any, lead: tuple[int, ...] = (), stride: int = 1) -> ReplayState:
        state = super().init(items, lead, stride)
        known = {USABLE: np.zeros((*lead, state.capacity, 1), bool)}
        return state.replace(rows=state.rows | known)

    def packed(self, state: ReplayState, items: Any) -> dict[str, Any]:
        rows = super().packed(state, items)
        return rows | {USABLE: ops.is_usable(rows, 1)[:, None]}

    def usable(self, state: ReplayState, index: Any) -> Any:
        return state.rows[USABLE].take(index)


class Standing(NamedTuple):
    """What others have to know of a shard."""

    added: int = 0  # items so far
    size: int = 0  # items that it holds
    mass: float = 0.0  # the sum of their priorities; their number where all are drawn alike
    largest: float = 1.0  # priority so far


class Drawn(NamedTuple):
    """Items that a shard drew."""

    rows: np.ndarray  # [n] to report errors for
    items: Any  # [n, ...]
    standing: Standing  # at that moment


class Told(NamedTuple):
    """What a shard did with errors that it was told."""

    late: int  # of items that others had replaced since they were drawn
    standing: Standing


class Shard:
    """Stores rollouts and draws from them, with the replay of `learner` in host memory.

    `rollout` gives the shapes of what is added. Whatever is drawn follows from `seed` and the order
    of the calls.
    """

    def __init__(self, learner: OffPolicy, rollout: Rollout, seed: int):
        self.replay, self.algorithm = learner.replay, learner.algorithm
        items = jax.eval_shape(self.algorithm.items, rollout)
        self.state = self.replay.init(items, stride=rollout.steps.first.shape[1])
        self.random, self.added = np.random.default_rng(seed), 0

    def add(self, rollout: Rollout, largest: float) -> Standing:
        """Stores a rollout; its items get the largest priority so far, in any shard."""
        if isinstance(known := self.state.priorities, Priorities):
            known = known.replace(largest=np.maximum(known.largest, np.float32(largest)))
            self.state = self.state.replace(priorities=known)
        self.state = self.replay.add(self.state, self.algorithm.items(rollout))
        self.added += self.state.count
        return self.standing()

    def standing(self) -> Standing:
        """How it stands now."""
        size, priorities = int(self.state.size), self.state.priorities
        if not isinstance(priorities, Priorities):
            return Standing(self.added, size, float(size))
        return Standing(self.added, size, float(priorities.total), float(priorities.largest))

    def draw(self, count: int) -> Drawn:
        """Draws `count` items."""
        rows, items = self.replay.draw(self.state, self.random, (padded(count),))
        first = lambda x: np.ascontiguousarray(np.asarray(x)[:count])  # sent without a copy
        return Drawn(first(rows), jax.tree.map(first, items), self.standing())

    def learned(self, rows: np.ndarray, td_error: np.ndarray, added: int) -> Told:
        """Takes the errors [n] of rows [n] that were drawn when so many items had been added."""
        newer = (int(self.state.cursor) - 1 - rows) % self.state.capacity
        there = newer >= self.added - added
        rows, td_error = rows[there], td_error[there]
        late = len(there) - len(rows)
        if len(rows):
            more = 0, padded(len(rows)) - len(rows)  # the last one again, which changes nothing
            told = (np.pad(x, more, "edge") for x in (rows, td_error))
            self.state = self.replay.learned(self.state, *told)
        return Told(late, self.standing())


def padded(count: int) -> int:
    """A number of items from `count` on, of few: programs are compiled for each."""
    step = 2 ** max(int(math.log2(4 * math.sqrt(count))), 3)
    return -(-count // step) * step


def in_shards(replay: Any, count: int) -> Any:
    """The replay of each of `count` shards. Raises ConfigError where it cannot be divided."""
    if isinstance(replay, DIVISIBLE):
        part = replay.replace(inner=in_shards(replay.inner, count))
        return part.replace(normalized=False) if isinstance(part, Prioritized) else part
    if type(replay) not in (Replay, NumpyReplay):
        raise ConfigError(
            f"a replay of the kind {type(replay).__name__} cannot be divided into shards; leave "
            "out --replay-shards."
        )
    return KnowingReplay(replay.capacity // count, in_order=False)


def prioritized_of(replay: Any) -> Prioritized | None:
    """What draws by priority in a replay, if anything does."""
    while not isinstance(replay, Replay | Prioritized):
        replay = replay.inner
    return replay if isinstance(replay, Prioritized) else None
