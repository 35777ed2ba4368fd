"""Maps a network's actions to those that an environment takes, as data.

Networks output one flat vector in [-1, 1], or choices counted from 0. Environments have their own
bounds, shapes, dtypes and offsets.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from parl.core.errors import SpaceError
from parl.core.numbers import from_json, to_json
from parl.core.spec import Box


@dataclass(frozen=True, eq=False)
class ActionMap:
    """Maps network actions [B, A], or choices [B] of a Discrete, to what an environment takes.

    A component a becomes `scale` * a + `offset`, rounded if `dtype` is an integer type and clipped
    to [low, high]. The arrays are flat [A]; `shape` and `dtype` are the environment's.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: np.ndarray  # [A]; 1 for choices
    offset: np.ndarray  # [A]; the lowest value of each choice
    low: np.ndarray  # [A]; -inf: unbounded
    high: np.ndarray  # [A]; inf: unbounded
    choices: bool = False  # integers counted from 0 instead of real numbers

    def __call__(self, action: Any) -> Any:
        """The environment's actions [B, *shape]: numpy for numpy input, jax for jax input."""
        shape = (len(action), *self.shape)
        if self.choices:
            return (action + self.offset).astype(self.dtype).reshape(shape)
        # Clip before scaling so that nothing overflows, and after it so that rounding stays in
        # bounds.
        action = action.astype(self.scale.dtype).clip(*self.reach) * self.scale + self.offset
        action = action.clip(*self.limits)
        return (action.round() if self.rounds else action).astype(self.dtype).reshape(shape)

    def split(self, action: np.ndarray) -> list[Any]:
        """The same, as a list of B actions: an int or an array for each environment."""
        taken = self(action)
        if self.shape:
            return list(taken)
        return taken.tolist() if self.choices else [taken[i, ...] for i in range(len(taken))]

    def back(self, taken: Any) -> np.ndarray:
        """The inverse map: the environment's actions [B, *shape] to the network's [B, A] or [B].

        Raises ValueError if they are not actions of this environment.
        """
        taken = np.asarray(taken)
        if taken.shape[1:] != self.shape:
            raise ValueError(f"actions have the shape {self.shape}, not {taken.shape[1:]}")
        flat = taken.reshape(len(taken), self.scale.size)  # [B, A]
        if not self.choices:
            scale = np.where(self.scale > 0, self.scale, 1)
            return ((flat - self.offset) / scale).clip(*self.reach).astype(np.float32)
        if not ((flat >= self.low) & (flat <= self.high) & (flat == np.floor(flat))).all():
            raise ValueError(f"action {taken.tolist()} is not one of the space")
        choice = (flat - self.offset).astype(np.int32)
        return choice if self.shape else choice[:, 0]

    @property
    def rounds(self) -> bool:
        """Whether real numbers are rounded to the environment's integers."""
        return np.issubdtype(self.dtype, np.integer)

    @property
    def loses(self) -> bool:
        """Whether two network actions can map to the same environment action."""
        return not self.choices and (self.rounds or bool(np.isfinite([self.low, self.high]).any()))

    @cached_property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """(low [A], high [A]) of network actions: -1, 1 where bounded, else infinite."""
        dtype = self.scale.dtype
        low = np.where(np.isfinite(self.low), -1, -np.inf).astype(dtype)
        return low, np.where(np.isfinite(self.high), 1, np.inf).astype(dtype)

    @cached_property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """([A], [A]) the bounds within which every value fits the space and its dtype."""
        info = np.iinfo(self.dtype) if self.rounds else np.finfo(self.dtype)
        least, most = inner(info.min, self.scale.dtype), inner(info.max, self.scale.dtype)
        return np.maximum(self.low, least), np.minimum(self.high, most)

    def to_json(self) -> dict[str, Any]:
        """The form that `from_json` reads."""
        arrays = {name: to_json(getattr(self, name)) for name in ("scale", "offset", "low", "high")}
        shape, dtype = list(self.shape), self.dtype
        return {"shape": shape, "dtype": dtype, "choices": self.choices} | arrays

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ActionMap":
        """Inverse of `to_json`. Raises KeyError, TypeError or ValueError for anything else."""
        shape, dtype = tuple(values["shape"]), np.dtype(values["dtype"])
        kind, size = (np.int64 if values["choices"] else working(dtype)), int(np.prod(shape))
        names = ("scale", "offset", "low", "high")
        arrays = [from_json(values[name], (size,), kind) for name in names]
        return cls(shape, dtype.name, *arrays, choices=bool(values["choices"]))


def working(dtype: np.dtype) -> type[np.floating]:
    """The dtype used to compute actions of a Box of `dtype`."""
    return np.float32 if dtype in (np.float16, np.float32) else np.float64


def inner(bound: Any, dtype: Any) -> Any:
    """The nearest float that does not exceed an integer bound; float bounds are unchanged."""
    near = dtype.type(bound)
    return np.nextafter(near, dtype.type(0)) if abs(int(near)) > abs(int(bound)) else near


def number_map(low: Any, high: Any, shape: tuple[int, ...], dtype: Any) -> tuple[Box, ActionMap]:
    """The network's action space (a vector) and the map to a Box with these bounds.

    Bounds are arrays [*shape] or scalars. With two bounds, -1 maps to the lower and 1 to the upper
    one. With one bound, -1 maps to a lower or 1 to an upper one, and the unit stays the
    environment's. Unbounded actions are unchanged. Raises SpaceError for an empty Box or one that
    does not hold numbers.
    """
    dtype = np.dtype(dtype)
    if 0 in shape:
        raise SpaceError(f"a Box{shape} has no numbers to choose, so nothing can act in it.")
    if not (np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)):
        raise SpaceError(f"a Box of {dtype} is not served: use numbers, or MultiBinary for flags.")
    kind = working(dtype)
    flat = lambda bound: np.broadcast_to(np.asarray(bound), shape).reshape(-1).astype(kind)
    low, high = flat(low), flat(high)
    below, above = np.isfinite(low), np.isfinite(high)
    bottom, top = np.where(below, low, 0), np.where(above, high, 0)
    scale = np.where(below & above, top / 2 - bottom / 2, 1).astype(kind)
    offset = np.select(
        [below & above, below, above], [top / 2 + bottom / 2, bottom + 1, top - 1], 0
    ).astype(kind)
    action_map = ActionMap(shape, dtype.name, scale, offset, low, high)
    bounds = (uniform(bound) for bound in action_map.reach)
    return Box((low.size,), "float32", *bounds), action_map


def choice_map(start: Any, count: Any, shape: tuple[int, ...], dtype: Any) -> ActionMap:
    """The map to integers start .. start + count - 1, both [*shape] or scalars."""
    size = int(np.prod(shape))
    start = np.broadcast_to(np.asarray(start, np.int64), shape).reshape(-1)
    count = np.broadcast_to(np.asarray(count, np.int64), shape).reshape(-1)
    one = np.ones(size, np.int64)
    return ActionMap(shape, np.dtype(dtype).name, one, start, start, start + count - 1, True)


def uniform(bound: np.ndarray) -> Any:
    """A scalar if all bounds are equal, so that the spec of an image stays small."""
    first = float(bound.flat[0]) if bound.size else 0.0
    return first if (bound == first).all() else bound
