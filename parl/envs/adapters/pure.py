"""What the adapters of packages of pure JAX environments share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.spec import Box, Space
from parl.core.types import Array


def settled(tree: Any, like: Any) -> Any:
    """The leaves in the shapes and dtypes of `like`, so that a loop may carry them.

    Python numbers and weak types become arrays, and keys stay as they are.
    """

    def one(x: Any, like: Any) -> Any:
        if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
            return x
        return jnp.asarray(x, like.dtype).reshape(like.shape)

    return jax.tree.map(one, tree, like)


def named(obs: Any) -> Any:
    """An observation's named tuples and dataclasses as dicts; an array stands for itself."""
    if hasattr(obs, "_asdict"):
        parts = obs._asdict()
    elif hasattr(obs, "__dataclass_fields__"):
        parts = {name: getattr(obs, name) for name in obs.__dataclass_fields__}
    else:
        return obs
    return {name: named(part) for name, part in parts.items()}


def number(x: Any) -> Array:
    """Truth values as they are, all else as float32."""
    x = jnp.asarray(x)
    return x if x.dtype == bool else x.astype(jnp.float32)


def space_of(obs: Any) -> Space:
    """The space of an observation's shapes, truth values and numbers without bounds."""
    if isinstance(obs, dict):
        return {name: space_of(part) for name, part in obs.items()}
    return Box(tuple(obs.shape), "bool" if obs.dtype == bool else "float32")


def bounded(low: Any, high: Any, shape: tuple[int, ...]) -> Box:
    """The space of actions with bounds, at least a vector."""
    full = lambda x: np.broadcast_to(np.asarray(x, np.float32), shape).reshape(shape or (1,))
    return Box(shape or (1,), low=full(low), high=full(high))
