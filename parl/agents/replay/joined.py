"""One replay of several shards: how many items each one draws, and batches of what they drew.

An item i of shard s is drawn with the probability m_s / M * p_i / m_s, by the shard's share of all
priorities and its own share of the shard's: with that of one replay. Shapes: N shards, U batches of
B items.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from parl.agents.replay.shard import Drawn


class Places(NamedTuple):
    """What the batches are made of."""

    counts: np.ndarray  # [U, N] items of each shard
    shares: np.ndarray  # [N] of all priorities

    def of(self, shard: int) -> np.ndarray:
        """[n] where in the joined batches [U * B] the items of a shard go."""
        counts, size = self.counts[:, shard], self.counts[0].sum()
        starts = np.arange(len(counts)) * size + self.counts[:, :shard].sum(1)
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        return np.repeat(starts, counts) + within


def places(masses: Sequence[float], updates: int, size: int, random: np.random.Generator) -> Places:
    """Where `updates` batches of `size` items come from, for the masses [N] of the shards."""
    shares = np.asarray(masses, np.float64) / np.sum(masses, dtype=np.float64)
    return Places(random.multinomial(size, shares, updates), shares)


def joined(draws: Sequence[Drawn | None], where: Places, beta: float) -> Any:
    """The batches [U, B, ...] of what all shards drew; None where one was asked for nothing.

    Importance weights, where there are some, become (1 / (N P))^beta over all shards, divided by
    the largest of the batch: `beta` is the exponent that they have.
    """
    updates, size = len(where.counts), int(where.counts[0].sum())
    found = [(where.of(s), draw.items) for s, draw in enumerate(draws) if draw is not None]

    def join(*parts: np.ndarray) -> np.ndarray:
        whole = np.empty((updates * size, *parts[0].shape[1:]), parts[0].dtype)
        for (place, _), part in zip(found, parts, strict=True):
            whole[place] = part
        return whole.reshape(updates, size, *whole.shape[1:])

    batches = jax.tree.map(join, *[items for _, items in found])
    if "weight" not in batches.extras:
        return batches
    factors = np.ones(updates * size, np.float32)
    for s, draw in enumerate(draws):
        if draw is not None:
            factors[where.of(s)] = (where.shares[s] / draw.standing.size) ** -beta
    weight = batches.extras["weight"] * factors.reshape(updates, size)
    weight = weight / np.maximum(weight.max(-1, keepdims=True), 1e-30)
    return batches._replace(extras=batches.extras | {"weight": weight.astype(np.float32)})
