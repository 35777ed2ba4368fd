"""Arithmetic that keeps NaN and overflow from spreading."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.types import Array

LARGEST_SQUARED = 1e19  # the squares of larger numbers are infinite in float32


def is_usable(tree: Any, axes: int = 0) -> Any:
    """Whether no number in the leaves is NaN or larger than LARGEST_SQUARED.

    Returns [] bool, or one for each entry of the first `axes` axes. Takes numpy or jax arrays.
    """
    leaves = jax.tree.leaves(tree)
    floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
    usable: Any = np.ones(leaves[0].shape[:axes], bool)
    for leaf in floats:
        usable = usable & fits(leaf.astype("float32", copy=False), axes)
    return usable


def fits(x: Any, axes: int) -> Any:
    """Whether no number of each entry of the first axes of x is NaN or too large."""
    largest = LARGEST_SQUARED
    if isinstance(x, np.ndarray) and x.size and -largest <= x.min() and x.max() <= largest:
        return np.ones(x.shape[:axes], bool)  # all, as nearly always, which is known soonest
    return (abs(x) <= largest).reshape(*x.shape[:axes], -1).all(-1)


def weighted(weight: Array, x: Array) -> Array:
    """weight * x, but 0 with gradient 0 where the weight is 0, even if x is infinite or NaN."""
    return weight * jnp.where(weight == 0, 0.0, x)
