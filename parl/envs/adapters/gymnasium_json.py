"""Spaces of Gymnasium in JSON and back, so that a policy can be used without its environment."""

from typing import Any

import numpy as np
from gymnasium import spaces

from parl.core.errors import SpaceError
from parl.core.numbers import from_json, to_json
from parl.envs.adapters import interpreter_side


def describe(space: spaces.Space) -> dict[str, Any]:
    """The space as JSON. Raises SpaceError for one without a fixed shape."""
    try:
        return interpreter_side.describe(space, to_json)
    except interpreter_side.Unfit as error:
        raise SpaceError(str(error)) from error


def space_of(values: dict[str, Any]) -> spaces.Space:
    """The inverse of `describe`; raises KeyError, TypeError or ValueError for anything else."""
    match values["type"]:
        case "Box":
            shape, dtype = tuple(values["shape"]), np.dtype(values["dtype"])
            low, high = (bound(values[name], shape, dtype) for name in ("low", "high"))
            return spaces.Box(low, high, shape, dtype)
        case "Discrete":
            return spaces.Discrete(values["n"], start=values["start"])
        case "MultiDiscrete":
            dtype = np.dtype(values["dtype"])
            return spaces.MultiDiscrete(values["nvec"], dtype, start=values["start"])
        case "MultiBinary":
            return spaces.MultiBinary(values["n"])
        case "Dict":
            return spaces.Dict([(name, space_of(part)) for name, part in values["parts"]])
        case "Tuple":
            return spaces.Tuple([space_of(part) for part in values["parts"]])
    raise ValueError(f"'{values['type']}' is not a space")


def bound(value: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """What a Box takes for one of its bounds: infinities need floats."""
    if value in ("inf", "-inf"):
        return float(value)
    numbers = from_json(value, shape, np.float64)
    return (
        numbers if np.isinf(numbers).any() and dtype.kind != "f" else from_json(value, shape, dtype)
    )
