"""A check for NaN and infinity."""

from typing import Any

import jax


def not_finite(tree: Any) -> str:
    """The name of the first leaf that holds NaN or infinity, or an empty string."""
    leaves = jax.tree.leaves_with_path(tree)
    floats = [(path, x) for path, x in leaves if jax.numpy.issubdtype(x.dtype, jax.numpy.floating)]
    good = jax.device_get([jax.numpy.isfinite(x).all() for _, x in floats])
    for (path, _), fine in zip(floats, good, strict=True):
        if not fine:
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return ""
