"""Action masks of single-agent environments.

It is told by the entry `legal` or `action_mask` of a dict of observations, or by
`info["action_mask"]`; here it becomes one mask [B, A] bool, with the choices of MultiDiscrete
actions after one another. Within a dict in the dict such an entry is the mask if it has the size of
one, else an observation.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from parl.core.errors import SpaceError
from parl.core.spec import Box, Space, flat_size

NAMES = ("legal", "action_mask")
IN_INFO = "action_mask"

Path = tuple[Any, ...]  # keys from the whole observation inwards


def find_mask(observation_space: spaces.Space, action_space: Space) -> Path | None:
    """Where in the observations the mask lies; None where there is none.

    Raises SpaceError where the entry has another size than a mask, or several could be it.
    """
    if isinstance(action_space, Box):
        return None
    size = flat_size(action_space)
    found = list(_entries(observation_space, ()))
    for path, space in found:
        if len(path) == 1 and _size(space) != size:
            raise SpaceError(
                f"the observation '{path[0]}' is {space}; as the mask of {action_space} it needs "
                f"{size} numbers, and anything else needs another name."
            )
    fitting = [path for path, space in found if _size(space) == size]
    least = min(map(len, fitting), default=0)
    nearest = [path for path in fitting if len(path) == least]
    if len(nearest) > 1:
        names = " and ".join("/".join(map(str, path)) for path in nearest)
        raise SpaceError(f"{names} could each be the mask of {action_space}: rename all but one.")
    return nearest[0] if nearest else None


def _entries(space: spaces.Space, path: Path) -> Iterator[tuple[Path, spaces.Space]]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        named = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        for key, part in named:
            if key in NAMES:
                yield (*path, key), part
            yield from _entries(part, (*path, key))


def _size(space: spaces.Space) -> int | None:
    """Numbers in a space; None where they are no fixed number."""
    if isinstance(space, spaces.Tuple):
        sizes = [_size(part) for part in space]
        return None if None in sizes else sum(size for size in sizes if size)
    if isinstance(space, spaces.Discrete) or space.shape is None:
        return 1 if isinstance(space, spaces.Discrete) else None
    return math.prod(space.shape)


def without(space: spaces.Space, path: Path) -> spaces.Space:
    """A space of dicts and tuples without one entry."""
    key, *rest = path
    whole: Any = space
    named: dict[Any, Any] = dict(
        whole.items() if isinstance(space, spaces.Dict) else enumerate(whole)
    )
    inner = without(named[key], tuple(rest)) if rest else None
    kept = {name: part for name, part in named.items() if name != key}
    if inner is not None and (not isinstance(inner, spaces.Dict) or inner.spaces):
        kept = {name: inner if name == key else part for name, part in named.items()}
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple(list(kept.values()))
    return spaces.Dict(kept)


def at(path: Path, value: Any) -> Any:
    """The entry of an observation that lies at a path."""
    for key in path:
        value = value[key]
    return value


def stack_masks(values: Sequence[Any], size: int) -> np.ndarray:
    """[B, A] bool of B masks: arrays of any shape and kind of number, or tuples of them.

    Raises ValueError where one has another size, or numbers beside 0 and 1.
    """
    rows = np.array([_flat(value) for value in values])
    if rows.dtype == bool and rows.shape[1:] == (size,):
        return rows
    if rows.dtype.kind not in "biuf":
        raise ValueError("its mask is not made of numbers")
    if rows.shape[1:] != (size,):
        raise ValueError(f"its mask has {rows[0].size} numbers instead of {size}")
    mask = rows != 0
    if (rows != mask).any():
        raise ValueError(f"its mask holds {rows[rows != mask][0]}, not only 0 and 1")
    return mask


def _flat(value: Any) -> np.ndarray:
    if isinstance(value, tuple):
        return np.concatenate([_flat(part) for part in value])
    return np.ravel(np.asarray(value))
