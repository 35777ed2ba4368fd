"""Spaces of Gymnasium as PARL's, and what travels through them as arrays."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from parl.core.errors import SpaceError
from parl.core.spec import Box, Discrete, MultiDiscrete, Space


def convert_space(space: spaces.Space) -> Space:
    """PARL's space for an observation space of Gymnasium.

    Tuples become dicts with the keys "0", "1", ...; MultiBinary becomes MultiDiscrete of 2s;
    uint8 boxes stay uint8 and all other boxes become float32.
    """
    match space:
        case spaces.Box():
            dtype = "uint8" if space.dtype == np.uint8 else "float32"
            return Box(space.shape, dtype, _uniform(space.low), _uniform(space.high))
        case spaces.Discrete():
            return Discrete(int(space.n))
        case spaces.MultiDiscrete():
            return MultiDiscrete(tuple(map(int, space.nvec.ravel())))
        case spaces.MultiBinary():
            return MultiDiscrete((2,) * math.prod(space.shape))
        case spaces.Dict():
            return {str(name): convert_space(part) for name, part in space.items()}
        case spaces.Tuple():
            return {str(index): convert_space(part) for index, part in enumerate(space)}
    raise SpaceError(f"{type(space).__name__} spaces have no fixed shape and are not supported.")


def _uniform(bound: np.ndarray) -> Any:
    """A scalar where all bounds are equal, so that the spec of an image stays small."""
    first = float(bound.flat[0]) if bound.size else 0.0
    return first if (bound == first).all() else bound


def stacker(space: spaces.Space) -> Callable[[Sequence[Any]], Any]:
    """A function from B observations in `space` to fresh arrays [B, *O] of the converted space."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        named = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        parts = [(str(key), key, stacker(part)) for key, part in named]
        return lambda values: {name: part([v[k] for v in values]) for name, k, part in parts}

    converted = convert_space(space)
    assert not isinstance(converted, dict)
    dtype, inner = np.dtype(converted.dtype), space.shape or ()
    start = getattr(space, "start", 0)
    shift = np.any(start)
    reshape = inner != converted.shape  # integers in a matrix become one vector

    def stack(values: Sequence[Any]) -> np.ndarray:
        array = np.array(values, dtype)
        if array.shape[1:] != inner:
            raise ValueError(f"its shape is {array.shape[1:]} instead of {inner}")
        if shift:
            array = (array - start).astype(dtype)
        return array.reshape(len(values), -1) if reshape else array

    return stack


def convert_actions(space: spaces.Space) -> tuple[Space, Callable[[np.ndarray], Sequence[Any]]]:
    """PARL's space for an action space, and a function from a batch to the actions of the envs."""
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return _box_actions(space)
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        if start:
            return convert_space(space), lambda action: (action + start).tolist()
        return convert_space(space), np.ndarray.tolist
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        start, shape, dtype = getattr(space, "start", 0), space.shape, space.dtype
        return convert_space(space), lambda action: list(
            (action.reshape(-1, *shape) + start).astype(dtype)
        )
    raise SpaceError(f"{space} is not supported as an action space.")


def _box_actions(space: spaces.Box) -> tuple[Box, Callable[[np.ndarray], Sequence[Any]]]:
    """Actions in [-1, 1] stretched to the finite bounds; components without any pass as they are.

    An action a becomes s a + o with s = (high - low) / 2 and o = (high + low) / 2.
    """
    low, high = space.low, space.high  # [*A]
    finite = np.isfinite(low) & np.isfinite(high)  # [*A]
    if not finite.any():
        return Box(space.shape), lambda action: list(np.array(action, space.dtype))
    if (low == -1).all() and (high == 1).all():
        return Box(space.shape, low=-1.0, high=1.0), lambda action: list(
            action.astype(space.dtype).clip(-1, 1)
        )
    low, high = np.where(finite, low, -1), np.where(finite, high, 1)
    scale, offset = high / 2 - low / 2, high / 2 + low / 2  # [*A]
    low, high = np.where(finite, low, -np.inf), np.where(finite, high, np.inf)

    def stretch(action: np.ndarray) -> Sequence[Any]:
        # Clipping afterwards also keeps rounding from leaving the bounds.
        return list((action.astype(space.dtype) * scale + offset).clip(low, high))

    bound = _uniform(np.where(finite, 1.0, np.inf))
    return Box(space.shape, low=-bound, high=bound), stretch
