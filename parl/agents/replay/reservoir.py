"""A reservoir beside a replay: a uniform sample of all that was ever offered.

Vitter 1985, doi:10.1145/3147.3165, algorithm R.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from parl import ops
from parl.agents.replay.ring import Layout, ReplayState
from parl.agents.replay.sampling import Sampler
from parl.core.draws import Source, integers, split
from parl.core.types import Array, static


class Offered(NamedTuple):
    """Rows that a reservoir may keep; leaves [m, ...]."""

    rows: Any
    wanted: Array  # [m] bool
    ticket: Array  # [m] uint32 random bits, which decide about the row's place


class WithReservoir(NamedTuple):
    """A batch of the replay, and one of the reservoir."""

    items: Any
    rows: Any


class ReservoirState(struct.PyTreeNode):
    """What is kept."""

    rows: dict[str, Any]  # dtype -> [size, D]
    seen: Any  # [] int32, rows offered so far
    layout: Layout = static()


class Reservoir(Sampler):
    """Adds to `inner`, and offers a part of the same items to a reservoir of `size` rows.

    Row number n is kept with probability size / n and then replaces another at random. A sample
    holds items of `inner`, and `batch` rows of the reservoir for each of its batches.
    """

    offer: Callable[[Any], Offered] = static(default=None)  # of the items [n, ...] of one add
    size: int = static(default=100_000)
    batch: int = static(default=256)

    def init(self, items: Any, lead: tuple[int, ...] = (), stride: int = 1) -> ReplayState:
        state = self.inner.init(items, lead, stride)
        layout = Layout.of(jax.eval_shape(self.offer, items).rows)
        rows = {d: jnp.zeros((*lead, self.size, width), d) for d, width in layout.widths().items()}
        kept = ReservoirState(rows, jnp.zeros(lead, jnp.int32), layout)
        return state.replace(reservoir=kept)

    def add(self, state: ReplayState, items: Any) -> ReplayState:
        """Adds to both. Of rows for one place the last is kept, as if added one by one."""
        kept, offered = state.reservoir, self.offer(items)
        packed = kept.layout.pack(jax.tree.map(jnp.asarray, offered.rows))
        wanted = offered.wanted & ops.is_usable(packed, 1)
        number = kept.seen + jnp.cumsum(wanted)  # of each row, from 1
        drawn = (offered.ticket % jnp.maximum(number, 1).astype(jnp.uint32)).astype(jnp.int32)
        place = jnp.where(number <= self.size, number - 1, drawn)
        place = jnp.where(wanted & (place < self.size), place, self.size)  # beyond: not kept
        order = jnp.arange(len(place))
        last = jnp.full(self.size, -1).at[place].max(order, mode="drop")
        is_last = last.at[place].get(mode="fill", fill_value=-1) == order
        place = jnp.where(is_last, place, self.size)
        write = lambda row, new: row.at[place].set(new, mode="drop")
        rows = {name: write(row, packed[name]) for name, row in kept.rows.items()}
        kept = kept.replace(rows=rows, seen=kept.seen + wanted.sum())
        return self.inner.add(state, items).replace(reservoir=kept)

    def index(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> Any:
        k_inner, k_rows = split(key)
        filled = jnp.clip(state.reservoir.seen, 1, self.size)
        rows = integers(k_rows, (*shape[:-1], self.batch), filled)
        return self.inner.index(state, k_inner, shape), rows

    def take(self, state: ReplayState, index: Any) -> WithReservoir:
        """Both batches; rows of an empty reservoir are zeros."""
        kept, (items, rows) = state.reservoir, index
        found = kept.layout.unpack({name: row[rows] for name, row in kept.rows.items()})
        return WithReservoir(self.inner.take(state, items), found)

    def learned(self, state: ReplayState, index: Any, td_error: Any) -> ReplayState:
        return self.inner.learned(state, index[0], td_error)
