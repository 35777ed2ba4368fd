"""Spaces of Gymnasium as PARL's, and what travels through them as arrays."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from parl.core.actions import ActionMap, choice_map, number_map, uniform
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
            return Box(space.shape, dtype, uniform(space.low), uniform(space.high))
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


def convert_actions(space: spaces.Space) -> tuple[Space, ActionMap]:
    """The space of a network's actions, and the map from these to an action space of Gymnasium.

    A Box becomes a vector, see `number_map`. Raises SpaceError for spaces that are not served, with
    what can be done.
    """
    match space:
        case spaces.Box():
            low = np.where(space.bounded_below, space.low, -np.inf)
            high = np.where(space.bounded_above, space.high, np.inf)
            return number_map(low, high, space.shape, space.dtype)
        case spaces.Discrete():
            return convert_space(space), choice_map(space.start, space.n, (), space.dtype)
        case spaces.MultiDiscrete():
            start, shape = getattr(space, "start", 0), space.shape
            return convert_space(space), choice_map(start, space.nvec, shape, space.dtype)
        case spaces.MultiBinary():
            return convert_space(space), choice_map(0, 2, space.shape, space.dtype)
    raise SpaceError(
        f"{space} is not supported as an action space: make it one Box (of numbers), one Discrete "
        "or one MultiDiscrete (of choices) with gymnasium.wrappers.TransformAction, whose function "
        "takes it apart."
    )
