"""Arithmetic that stays finite: what float32 cannot hold must not spread."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.types import Array

LARGEST_SQUARED = 1e19  # the squares of larger numbers are infinite in float32


def is_usable(tree: Any, axes: int = 0) -> Any:
    """Whether the numbers of leaves [...] can be learned from: none is NaN or beyond LIMIT.

    [] bool, or one for each entry of the first `axes` axes. numpy or jax arrays.
    """
    leaves = jax.tree.leaves(tree)
    floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
    fits = lambda x: (
        (abs(x.astype("float32")) <= LARGEST_SQUARED).reshape(*x.shape[:axes], -1).all(-1)
    )
    usable: Any = np.ones(leaves[0].shape[:axes], bool)
    for leaf in floats:
        usable = usable & fits(leaf)
    return usable


def weighted(weight: Array, x: Array) -> Array:
    """weight * x, but 0 where the weight is 0, also of infinity and NaN, and so is the gradient."""
    return weight * jnp.where(weight == 0, 0.0, x)
