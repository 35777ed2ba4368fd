"""Checks for NaN and infinity."""

import math
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import EnvError

ADJECTIVES = {"NaN": "a NaN", "infinity": "an infinite"}


class NotFinite(NamedTuple):
    """The first number of an array that is NaN or infinite."""

    kind: str  # NaN or infinity
    place: tuple[int, ...]  # in the array


def find_not_finite(tree: Any) -> NotFinite | None:
    """The first number that is NaN or infinite in a numpy array, or in a dict of arrays."""
    if isinstance(tree, dict):
        return next(filter(None, map(find_not_finite, tree.values())), None)
    if tree.dtype.kind in "biu" or is_finite(tree):
        return None
    place = tuple(np.argwhere(~np.isfinite(tree))[0].tolist())
    return NotFinite("NaN" if np.isnan(tree[place]) else "infinity", place)


def is_finite(array: np.ndarray) -> bool:
    """Whether all numbers are finite: one dot product, and a closer look where it is not."""
    quick = array.dtype.kind == "f" and math.isfinite(np.vdot(array, array))
    return quick or bool(np.isfinite(array).all())


def check_answer(tree: Any, what: str, id: str, step: int, first: int = 0) -> None:
    """Raises EnvError if what environments returned, arrays [B, ...], is not finite.

    `what` is observation or reward; `first` is the number of the first of the B environments.
    """
    if found := find_not_finite(tree):
        raise unusable(id, found, what, f"in environment {first + found.place[0]} at step {step}")


def unusable(id: str, found: NotFinite, what: str, where: str) -> EnvError:
    """The error for an environment that returned NaN or infinity."""
    return EnvError(
        f"{id} returned {ADJECTIVES[found.kind]} {what} {where}; its simulation has diverged or "
        "its code has a bug."
    )


def not_finite(tree: Any) -> str:
    """The name of the first leaf of jax arrays that holds NaN or infinity, or an empty string."""
    import jax  # only now: environments' processes need none

    leaves = jax.tree.leaves_with_path(tree)
    floats = [(path, x) for path, x in leaves if jax.numpy.issubdtype(x.dtype, jax.numpy.floating)]
    good = jax.device_get([jax.numpy.isfinite(x).all() for _, x in floats])
    for (path, _), fine in zip(floats, good, strict=True):
        if not fine:
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return ""
