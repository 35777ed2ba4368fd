"""Replay: a ring of opaque items on the device or in numpy arrays.

Items are packed into one array [capacity, D] per dtype. With one array per field, XLA copies the
whole buffer whenever a program both adds and samples; packed, an add is one slice written in place
and a sample one gather of rows.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl import ops
from parl.core.draws import Source, integers
from parl.core.errors import ConfigError
from parl.core.types import static


class Layout(NamedTuple):
    """The layout of items in packed rows; hashable, so that it can be static."""

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

    def place(self, of: Callable[[Any], Any]) -> tuple[str, int, tuple[int, ...]]:
        """(dtype, first column, shape) of the leaf that `of` takes from the items' tree."""
        number = of(jax.tree.unflatten(self.structure, range(len(self.dtypes))))
        dtype, before = self.dtypes[number], zip(self.shapes[:number], self.dtypes, strict=False)
        return dtype, sum(math.prod(s) for s, d in before if d == dtype), self.shapes[number]


# Of stored items, before a sampler joins them. Their axes are those of the rows that were asked
# for; of windows that start from these, the windows' axis comes first.
Change = Callable[[Any], Any]


def unchanged(items: Any) -> Any:
    """The items themselves."""
    return items


class ReplayState(struct.PyTreeNode):
    """The content of the ring."""

    rows: dict[str, Any]  # dtype -> [capacity, D]
    cursor: Any  # [] int32, row of the next items
    size: Any  # [] int32, number of items
    layout: Layout = static()
    stride: int = static(default=1)  # rows from a step to the next of the same environment
    count: int = static(default=1)  # items in one add
    priorities: Any = ()  # of the items, if they are drawn by priority
    reservoir: Any = ()  # a ReservoirState, if there is one beside
    in_order: bool = static(default=True)  # each add continues the environments of the one before

    @property
    def capacity(self) -> int:
        """The number of rows of one seed."""
        return next(iter(self.rows.values())).shape[-2]

    def part(self, index: Any, of: Callable[[Any], Any]) -> Any:
        """One leaf [..., *shape] of the items in rows [...], which `of` takes from their tree."""
        dtype, start, shape = self.layout.place(of)
        if not shape:
            return self.rows[dtype][index, start]
        part = self.rows[dtype][index][..., start : start + math.prod(shape)]
        return part.reshape(*part.shape[:-1], *shape)


class Replay(struct.PyTreeNode):
    """A ring of items of any structure, such as steps for SAC or segments for QMIX.

    Every `add` must have the same number of items, and the capacity is rounded down to a multiple
    of it, so that a write never wraps around. Items that are not usable, see `ops.is_usable`, are
    stored, but replaced by others when sampled.
    """

    capacity: int = static()
    in_order: bool = static(default=True)  # as in ReplayState

    def init(self, items: Any, lead: tuple[int, ...] = (), stride: int = 1) -> ReplayState:
        """An empty ring for adds of the shape of `items` [n, ...] (arrays or their shapes).

        Rows get the leading axes `lead`, such as (K,) for K vmapped seeds. If items are single
        steps of several environments, `stride` is their number.
        """
        layout, capacity = Layout.of(items), self.fitted(items)
        zeros, count = self.memory.zeros, jax.tree.leaves(items)[0].shape[0]
        rows = {d: zeros((*lead, capacity, width), d) for d, width in layout.widths().items()}
        start = zeros((), "int32"), zeros((), "int32")
        return ReplayState(rows, *start, layout, stride, count, in_order=self.in_order)

    def filled(self, rows: dict[str, Any], layout: Layout, lead: tuple[int, ...]) -> ReplayState:
        """A full ring of these packed rows [n, D], in the order of time, as for one environment.

        Several seeds share the rows; `lead` is as in `init`.
        """
        count = next(iter(rows.values())).shape[0]
        number = lambda value: self.memory.asarray(value, "int32")
        return ReplayState(rows, number(0), number(count), layout, 1, count)

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
        cursor = (state.cursor + state.count) % state.capacity
        size = (state.size + state.count).clip(0, state.capacity)
        return state.replace(rows=rows, cursor=cursor, size=size)

    def sample(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> Any:
        """Items [*shape, ...] drawn with replacement."""
        return self.draw(state, key, shape)[1]

    def draw(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """(rows [*shape] to report errors for, items [*shape, ...]), drawn with replacement."""
        index = self.index(state, key, shape)
        return index, self.take(state, index)

    def index(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> Any:
        """Rows [*shape] to sample, drawn uniformly."""
        return integers(key, shape, state.size)

    def take(self, state: ReplayState, index: Any) -> Any:
        """The items in rows [...]; unusable ones are replaced by others of the batch."""
        return self.at(state, instead(index, self.usable(state, index)))

    def usable(self, state: ReplayState, index: Any) -> Any:
        """Whether the items in rows [...] are finite and usable: [...] bool."""
        return ops.is_usable(self.gathered(state, index), index.ndim)

    def at(self, state: ReplayState, index: Any, change: Change = unchanged) -> Any:
        """The items in rows [...], usable or not, as `change` makes them of the stored ones."""
        return change(state.layout.unpack(self.gathered(state, index)))

    def gathered(self, state: ReplayState, index: Any) -> dict[str, Any]:
        """The packed rows [...] of an index [...]."""
        return {name: row[index] for name, row in state.rows.items()}

    def learned(self, state: ReplayState, index: Any, td_error: Any) -> ReplayState:
        """Receives the TD errors [...] of the sampled rows [...]. Uniform replay ignores them."""
        return state

    @property
    def on_host(self) -> bool:
        """Whether the rows are in host memory."""
        return False


class NumpyReplay(Replay):
    """The same ring in host memory, for items that do not fit on the device; adds in place."""

    @property
    def memory(self) -> Any:
        return np

    def add(self, state: ReplayState, items: Any) -> ReplayState:
        check_count(state, items)
        packed = self.packed(state, items)
        for name, row in state.rows.items():
            row[state.cursor : state.cursor + state.count] = packed[name]
        return self.advanced(state, state.rows)

    def packed(self, state: ReplayState, items: Any) -> dict[str, Any]:
        """The rows of items [n, ...]."""
        return state.layout.pack(jax.tree.map(np.asarray, items), np)

    def gathered(self, state: ReplayState, index: Any) -> dict[str, Any]:
        return {name: row.take(index, 0) for name, row in state.rows.items()}  # twice as fast

    def index(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> Any:
        return np.asarray(super().index(state, key, shape))

    @property
    def on_host(self) -> bool:
        return True


def check_count(state: ReplayState, items: Any) -> None:
    """Raises ConfigError if the number of items differs from that of `init`."""
    count = jax.tree.leaves(items)[0].shape[0]
    if count != state.count:
        raise ConfigError(
            f"this replay was made for {state.count} items at a time and was given {count}; "
            "give all rollouts the same number of steps and environments."
        )


def instead(index: Any, usable: Any) -> Any:
    """`index` [..., B] with unusable entries replaced by the nearest usable one before them.

    Wraps around the axis; unchanged if no entry is usable.
    """
    if not np.ndim(index):
        return index
    on_host = isinstance(usable, np.ndarray)
    if on_host and usable.all():  # as nearly always
        return index
    xp, latest = (np, np.maximum.accumulate) if on_host else (jnp, jax.lax.cummax)
    own = xp.arange(index.shape[-1])
    place = latest(xp.where(usable, own, -1), axis=index.ndim - 1)
    place = xp.where(place < 0, place[..., -1:], place)
    return xp.take_along_axis(index, xp.where(place < 0, own, place), -1)
