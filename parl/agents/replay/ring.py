"""Replay: a ring of opaque items, on the device or in numpy.

Items are packed into one array [capacity, D] per dtype. With one array per field, XLA copies the
whole buffer whenever a program both adds and samples; packed, an add is one slice written in place
and a sample one gather of rows.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl import ops
from parl.core.errors import ConfigError
from parl.core.types import Array, static


class Layout(NamedTuple):
    """How items lie in packed rows; hashable, so that it can be static."""

    structure: Any  # the items' tree
    shapes: tuple[tuple[int, ...], ...]  # of each leaf, without the item axis
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, items: Any) -> "Layout":
        """The layout of items [n, ...]."""
        leaves, structure = jax.tree.flatten(items)
        return cls(
            structure, tuple(x.shape[1:] for x in leaves), tuple(str(x.dtype) for x in leaves)
        )

    def widths(self) -> dict[str, int]:
        """D of each dtype."""
        widths: dict[str, int] = {}
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            widths[dtype] = widths.get(dtype, 0) + math.prod(shape)
        return widths

    def pack(self, items: Any, xp: Any = jnp) -> dict[str, Any]:
        """Items [n, ...] as one array [n, D] per dtype."""
        groups: dict[str, list[Any]] = {}
        for leaf, dtype in zip(jax.tree.leaves(items), self.dtypes, strict=True):
            groups.setdefault(dtype, []).append(leaf.reshape(leaf.shape[0], -1))
        return {dtype: xp.concatenate(parts, -1) for dtype, parts in groups.items()}

    def unpack(self, rows: dict[str, Any]) -> Any:
        """Rows [..., D] back as items [..., *shape]."""
        places, leaves = dict.fromkeys(rows, 0), []
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            start, width = places[dtype], math.prod(shape)
            part = rows[dtype][..., start : start + width]
            leaves.append(part.reshape(*part.shape[:-1], *shape))
            places[dtype] = start + width
        return jax.tree.unflatten(self.structure, leaves)


class ReplayState(struct.PyTreeNode):
    """The ring's content."""

    rows: dict[str, Any]  # dtype -> [capacity, D]
    cursor: Any  # [] int32, where the next items go
    size: Any  # [] int32, how many items there are
    layout: Layout = static()
    stride: int = static(default=1)  # rows from a step to the next of the same environment
    count: int = static(default=1)  # items in one add
    priorities: Any = ()  # of the items, where they are drawn by priority


class Replay(struct.PyTreeNode):
    """A ring of items: single steps for SAC, whole segments for QMIX; it never looks inside.

    Every `add` must bring the same number of items, so that a write never wraps around: the
    capacity is rounded down to a multiple of it. Items that nothing can be learned from, see
    `ops.is_usable`, are stored like others, but others are taken in their place.
    """

    capacity: int = static()

    def init(self, items: Any, lead: tuple[int, ...] = (), stride: int = 1) -> ReplayState:
        """An empty ring for adds of the shape of `items` [n, ...] (arrays or their shapes).

        Rows get the leading axes `lead`, such as (K,) for K seeds to be vmapped over. Where items
        are single steps of several environments, `stride` is the number of these.
        """
        layout, capacity = Layout.of(items), self.fitted(items)
        zeros, count = self.memory.zeros, jax.tree.leaves(items)[0].shape[0]
        rows = {d: zeros((*lead, capacity, width), d) for d, width in layout.widths().items()}
        return ReplayState(rows, zeros((), "int32"), zeros((), "int32"), layout, stride, count)

    @property
    def memory(self) -> Any:
        """The array library whose memory holds the rows."""
        return jnp

    def fitted(self, items: Any) -> int:
        """The capacity as a multiple of the number of items in one add."""
        count = jax.tree.leaves(items)[0].shape[0]
        if not count:
            raise ConfigError("rollouts without a step or an environment hold nothing to store.")
        if count > self.capacity:
            raise ConfigError(
                f"replay of {self.capacity} items cannot take {count} at once; raise --capacity or "
                "collect shorter rollouts."
            )
        return self.capacity // count * count

    def add(self, state: ReplayState, items: Any) -> ReplayState:
        """Writes items [n, ...] over the oldest. Raises ConfigError if n is not as in `init`."""
        check_count(state, items)
        packed = state.layout.pack(items)
        write = lambda row, new: jax.lax.dynamic_update_slice(row, new, (state.cursor, 0))
        rows = {name: write(row, packed[name]) for name, row in state.rows.items()}
        return self.advanced(state, rows)

    def advanced(self, state: ReplayState, rows: dict[str, Any]) -> ReplayState:
        """The state after an add."""
        capacity = next(iter(rows.values())).shape[0]
        cursor = (state.cursor + state.count) % capacity
        size = (state.size + state.count).clip(0, capacity)
        return state.replace(rows=rows, cursor=cursor, size=size)

    def sample(self, state: ReplayState, key: Array, shape: tuple[int, ...]) -> Any:
        """Items [*shape, ...] drawn with replacement."""
        return self.take(state, self.index(state, key, shape))

    def index(self, state: ReplayState, key: Array, shape: tuple[int, ...]) -> Any:
        """Where to sample: rows [*shape], uniformly drawn."""
        return jax.random.randint(key, shape, 0, state.size)

    def take(self, state: ReplayState, index: Any) -> Any:
        """The items [..., ...] in rows [...], or a neighbour's where one cannot be used."""
        return self.at(state, instead(index, self.usable(state, index)))

    def usable(self, state: ReplayState, index: Any) -> Any:
        """Whether the items in rows [...] can be learned from: [...] bool."""
        return ops.is_usable({name: row[index] for name, row in state.rows.items()}, index.ndim)

    def at(self, state: ReplayState, index: Any) -> Any:
        """The items [..., ...] in rows [...], whatever they hold."""
        return state.layout.unpack({name: row[index] for name, row in state.rows.items()})

    def learned(self, state: ReplayState, index: Any, td_error: Any) -> ReplayState:
        """Told of the errors [...] of what was taken at rows [...]; it does not care."""
        return state

    @property
    def on_host(self) -> bool:
        """Whether the rows lie in host memory."""
        return False


class NumpyReplay(Replay):
    """The same ring in host memory, for items that do not fit the device. Adds in place."""

    @property
    def memory(self) -> Any:
        return np

    def add(self, state: ReplayState, items: Any) -> ReplayState:
        check_count(state, items)
        packed = state.layout.pack(jax.tree.map(np.asarray, items), np)
        for name, row in state.rows.items():
            row[state.cursor : state.cursor + state.count] = packed[name]
        return self.advanced(state, state.rows)

    def index(self, state: ReplayState, key: Array, shape: tuple[int, ...]) -> Any:
        return np.asarray(super().index(state, key, shape))

    @property
    def on_host(self) -> bool:
        return True


def check_count(state: ReplayState, items: Any) -> None:
    """Raises ConfigError where an add brings more or fewer items than the ring is divided into."""
    count = jax.tree.leaves(items)[0].shape[0]
    if count != state.count:
        raise ConfigError(
            f"this replay was made for {state.count} items at a time and was given {count}; "
            "give all rollouts the same number of steps and environments."
        )


def instead(index: Any, usable: Any) -> Any:
    """`index` [..., B] with that of the nearest usable entry before it in place of unusable ones.

    Round the end of the axis; unchanged where nothing is usable.
    """
    if not np.ndim(index):
        return index
    on_host = isinstance(usable, np.ndarray)
    xp, latest = (np, np.maximum.accumulate) if on_host else (jnp, jax.lax.cummax)
    own = xp.arange(index.shape[-1])
    place = latest(xp.where(usable, own, -1), axis=index.ndim - 1)
    place = xp.where(place < 0, place[..., -1:], place)
    return xp.take_along_axis(index, xp.where(place < 0, own, place), -1)
