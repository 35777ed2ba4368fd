"""Converts Gymnasium's spaces to PARL's, and their values to arrays."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from parl.core.actions import ActionMap, choice_map, number_map, uniform
from parl.core.errors import SpaceError
from parl.core.spec import Box, Discrete, MultiDiscrete, Space, has_bounds, image_axes


def convert_space(space: spaces.Space) -> Space:
    """PARL's space for an observation space of Gymnasium.

    Tuples become dicts with the keys "0", "1", ...; MultiBinary becomes MultiDiscrete of 2s;
    integers of 0 .. 255 and all uint8 boxes become uint8, all other boxes float32, in which images
    of floats in 0 .. 255 are divided by 255.
    """
    match space:
        case spaces.Box():
            return _convert_box(space)
        case spaces.Discrete():
            return Discrete(int(space.n))
        case spaces.MultiDiscrete():
            return MultiDiscrete(tuple(map(int, space.nvec.ravel())))
        case spaces.MultiBinary():
            return MultiDiscrete((2,) * math.prod(space.shape))
        case spaces.Dict() | spaces.Tuple() if not space.spaces:
            raise SpaceError(f"{space} is empty: there is nothing to see in it, so leave it out.")
        case spaces.Dict():
            return {str(name): convert_space(part) for name, part in space.items()}
        case spaces.Tuple():
            return {str(index): convert_space(part) for index, part in enumerate(space)}
        case spaces.Space():
            raise SpaceError(
                f"{type(space).__name__} spaces have no fixed shape and are not supported."
            )
    raise SpaceError(f"{space!r} is not supported: it is not a space of gymnasium.spaces.")


def _convert_box(space: spaces.Box) -> Box:
    low, high = uniform(space.low), uniform(space.high)
    if space.dtype is None or space.dtype.kind not in "biuf":
        raise SpaceError(f"boxes of {space.dtype} are not supported: give real numbers.")
    if space.dtype.kind in "iu":
        as_bytes = Box(space.shape, "uint8", low, high)
        if space.dtype == np.uint8 or has_bounds(as_bytes, (0, 255)):
            return as_bytes
    if is_bright(space):
        low, high = 0.0, 1.0
    return Box(space.shape, "float32", low, high)


def is_bright(space: spaces.Box) -> bool:
    """Whether a box holds images of floats that reach up to 255."""
    image = Box(space.shape, "uint8", uniform(space.low), uniform(space.high))
    return (
        space.dtype is not None
        and space.dtype.kind == "f"
        and len(space.shape) > 2
        and has_bounds(image, (0, 255))
        and image_axes(Box(space.shape, "float32", 0, 1)) is not None
    )


def stacker(space: spaces.Space) -> Callable[[Sequence[Any]], Any]:
    """A function from B observations in `space` to fresh arrays [B, *O] of the converted space.

    It raises ValueError for what does not fit or cannot be represented, such as fractions among
    integers; numbers that are outside the bounds of a box but have its type pass.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return _stacker_of_parts(space)
    converted = convert_space(space)
    assert not isinstance(converted, dict)
    inner = space.shape or ()
    cast = _caster(space)
    reshape = inner != converted.shape  # integers in a matrix become one vector

    def stack(values: Sequence[Any]) -> np.ndarray:
        array = np.array(values)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"it is {_described(values)}, not numbers")
        if array.shape[1:] != inner:
            raise ValueError(f"its shape is {array.shape[1:]} instead of {inner}")
        array = cast(array)
        return array.reshape(len(values), -1) if reshape else array

    return stack


def _stacker_of_parts(
    space: spaces.Dict | spaces.Tuple,
) -> Callable[[Sequence[Any]], dict[str, Any]]:
    kind = dict if isinstance(space, spaces.Dict) else (tuple, list)
    named = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
    parts = [(str(key), key, stacker(part)) for key, part in named]

    def stack(values: Sequence[Any]) -> dict[str, Any]:
        stacked = {}
        for name, key, part in parts:
            try:
                stacked[name] = part([value[key] for value in values])
            except ValueError as error:
                raise ValueError(f"{error} (in '{name}')") from error
            except (KeyError, IndexError, TypeError) as error:
                if wrong := [value for value in values if not isinstance(value, kind)]:
                    wanted = "a dict" if kind is dict else "a tuple"
                    raise ValueError(f"it is {_described(wrong)}, not {wanted}") from error
                raise ValueError(f"it lacks the entry '{name}'") from error
        return stacked

    return stack


def _described(values: Sequence[Any]) -> str:
    """What kind of thing the first of some values is that are no numbers."""
    for value in values:
        kind = np.asarray(value).dtype.kind
        if kind not in "biuf":
            return (
                "None" if value is None else {"c": "complex", "U": "text"}.get(kind, f"{value!r}")
            )
    return "of several kinds"


def _caster(space: spaces.Space) -> Callable[[np.ndarray], np.ndarray]:
    """A function that brings numbers [B, ...] to the type of the converted space.

    It raises ValueError where that would change them.
    """
    if isinstance(space, spaces.Box):
        return _box_caster(space)
    start: Any = getattr(space, "start", 0)
    counts = space.nvec if isinstance(space, spaces.MultiDiscrete) else getattr(space, "n", 2)
    counts = 2 if isinstance(space, spaces.MultiBinary) else counts
    limit, shift = np.asarray(counts, np.uint64), np.any(start)

    def cast(array: np.ndarray) -> np.ndarray:
        whole = _whole(array).astype(np.int64, copy=False)
        if shift:
            whole = whole - start
        bad = whole.view(np.uint64) >= limit  # those below 0 are beyond any limit
        if bad.any():
            raise ValueError(f"it holds {(whole + start)[bad][0]}, which is not in {space}")
        return whole.astype(np.int32)

    return cast


def _box_caster(space: spaces.Box) -> Callable[[np.ndarray], np.ndarray]:
    converted = _convert_box(space)
    dtype = np.dtype(converted.dtype)
    own: Any = np.dtype(space.dtype or np.float32)
    scale = np.float32(1 / 255) if is_bright(space) else None
    limits = (0, 1) if own.kind == "b" else (0, 0)
    if own.kind in "iu":
        limits = np.iinfo(own).min, np.iinfo(own).max

    def cast(array: np.ndarray) -> np.ndarray:
        if own.kind != "f" and array.dtype != own:
            array = _whole(array)
            if array.size and not (limits[0] <= array.min() and array.max() <= limits[1]):
                low, high = array.min(), array.max()
                wrong = low if low < limits[0] else high
                raise ValueError(f"it holds {wrong}, which is no {own}")
        array = array.astype(dtype, copy=False)
        return array if scale is None else array * scale

    return cast


def _whole(array: np.ndarray) -> np.ndarray:
    """Numbers, if all are whole and can be exact."""
    if array.dtype.kind == "f":
        bad = (array != np.trunc(array)) | ~(np.abs(array) < 2**53)
        if bad.any():
            raise ValueError(f"it holds {array[bad][0]} where whole numbers are due")
    return array


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
