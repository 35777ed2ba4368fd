"""Spaces of Gymnasium in JSON and back, so that a policy can be used without its environment."""

from typing import Any

import numpy as np
from gymnasium import spaces

from parl.core.errors import SpaceError
from parl.core.numbers import from_json, to_json


def describe(space: spaces.Space) -> dict[str, Any]:
    """The space as JSON. Raises SpaceError for one without a fixed shape."""
    kind = {"type": type(space).__name__}
    match space:
        case spaces.Box():
            low = np.where(space.bounded_below, space.low.astype(object), -np.inf)
            high = np.where(space.bounded_above, space.high.astype(object), np.inf)
            bounds = {"low": to_json(low), "high": to_json(high)}
            return kind | bounds | {"shape": list(space.shape), "dtype": str(space.dtype)}
        case spaces.Discrete():
            return kind | {"n": int(space.n), "start": int(space.start)}
        case spaces.MultiDiscrete():
            start = np.broadcast_to(getattr(space, "start", 0), space.shape).tolist()
            return kind | {"nvec": space.nvec.tolist(), "start": start, "dtype": str(space.dtype)}
        case spaces.MultiBinary():
            return kind | {"n": space.n if isinstance(space.n, int) else list(space.shape)}
        case spaces.Dict():
            return kind | {"parts": [[name, describe(part)] for name, part in space.items()]}
        case spaces.Tuple():
            return kind | {"parts": [describe(part) for part in space]}
    raise SpaceError(f"{kind['type']} spaces have no fixed shape and are not supported.")


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
