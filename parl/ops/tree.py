"""Broadcasting over trailing axes and over the leaves of pytrees."""

from typing import Any

import jax
import jax.numpy as jnp

from parl.core.types import Array


def expand_like(x: Array | float, y: Array) -> Array:
    """Appends axes of size 1 to x until it has the rank of y.

    [T, B] becomes [T, B, 1] for y [T, B, N], and then broadcasts over the agents N.
    """
    x, rank = jnp.asarray(x), jnp.ndim(y)
    if x.ndim > rank:
        raise ValueError(f"x {x.shape} has more axes than y {jnp.shape(y)}.")
    return x.reshape(x.shape + (1,) * (rank - x.ndim))


def where_first(first: Array, fresh: Any, old: Any) -> Any:
    """Per environment, `fresh` where an episode starts, `old` elsewhere.

    `first` [B] bool is broadcast over the leaves [B, ...] of two pytrees of the same structure.
    """
    return jax.tree.map(lambda a, b: jnp.where(expand_like(first, b), a, b), fresh, old)


def over_agents(reward: Any, like: Any) -> Any:
    """Rewards [..., N] summed over agents to the rank of `like`; rewards of that rank unchanged.

    Takes numpy or jax arrays.
    """
    return reward.sum(-1) if reward.ndim > like.ndim else reward
