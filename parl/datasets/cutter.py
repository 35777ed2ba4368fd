"""Cuts rollouts into episodes."""

from typing import Any

import jax
import numpy as np

from parl.core.spec import EnvSpec
from parl.core.types import Step
from parl.datasets.episode import Episode, environment_actions


class Cutter:
    """Takes steps [T, B, ...] of the same environments, rollout by rollout; gives whole episodes.

    An environment whose first step does not open an episode is waited for. After `limit` steps an
    episode is cut, and what follows in it is another.
    """

    def __init__(self, spec: EnvSpec, limit: int | None = None):
        self.spec, self.limit = spec, limit
        self.open: list[list[Step]] = []  # the parts of each environment's episode so far
        self.lengths: list[int] = []

    def add(self, steps: Step) -> list[list[Episode]]:
        """The episodes that ended in these steps, for each environment."""
        steps = steps._replace(extras={})
        length, count = steps.first.shape
        if not self.open:
            self.open, self.lengths = [[] for _ in range(count)], [0] * count
        return [
            self.column(b, jax.tree.map(lambda x, b=b: x[:, b], steps), length)
            for b in range(count)
        ]

    def column(self, b: int, steps: Step, length: int) -> list[Episode]:
        """The episodes that end in steps [T, ...] of environment b."""
        found, start = [], 0
        if not self.open[b]:
            opens = np.flatnonzero(steps.first)
            start = int(opens[0]) if len(opens) else length
        while start < length:
            ends = np.flatnonzero(steps.last[start:])
            stop = start + int(ends[0]) + 1 if len(ends) else length
            if self.limit is not None:
                stop = min(stop, start + self.limit - self.lengths[b])
            self.open[b].append(jax.tree.map(lambda x, s=slice(start, stop): x[s], steps))
            self.lengths[b] += stop - start
            if steps.last[stop - 1] or self.lengths[b] == self.limit:
                found.append(self.closed(b))
            start = stop
        return found

    def closed(self, b: int) -> Episode:
        """The episode of environment b so far, which ends here."""
        parts, self.open[b], self.lengths[b] = self.open[b], [], 0
        return episode_of(parts, self.spec)

    def rest(self) -> list[Episode]:
        """The episodes that are still going on, cut here."""
        return [self.closed(b) for b in range(len(self.open)) if self.open[b]]


def episode_of(parts: list[Step], spec: EnvSpec) -> Episode:
    """An episode from its steps; one that was going on is truncated at its end."""
    join = lambda *x: np.concatenate(x)
    steps: Any = jax.tree.map(join, *parts) if len(parts) > 1 else parts[0]
    terminated = steps.discount == 0
    truncated = steps.last & ~terminated
    truncated[-1] = ~terminated[-1]
    obs = jax.tree.map(lambda x, after: join(x, after[-1:]), steps.obs, steps.next_obs)
    actions = environment_actions(steps.action, spec)
    return Episode(obs, actions, np.asarray(steps.reward, np.float32), terminated, truncated)
