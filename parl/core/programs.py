"""Compiled programs that all runs of a process share.

A program is made from values, such as an environment and a number of steps, and takes as data what
differs from run to run: states, and a learner with its hyperparameters. Equal values give the same
program, so that a second run of one kind compiles nothing.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import jax
import jax.numpy as jnp

KEPT = 32  # programs of one kind; each keeps alive what it was made from

caches: list[Any] = []


def shared(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make(*values)`, called once for equal values; each time where one is no value.

    Only positional arguments. The last KEPT of its results are kept.
    """
    kept = lru_cache(KEPT, typed=True)(make)
    caches.append(kept)

    @wraps(make)
    def program(*values: Any) -> Any:
        return kept(*values) if all(map(is_value, values)) else make(*values)

    return program


def forget() -> None:
    """Lets all shared programs go, as after code was changed under them."""
    for cache in caches:
        cache.cache_clear()


def is_value(x: Any) -> bool:
    """Whether an object equals others by what it holds, which does not change."""
    try:
        hash(x)
    except TypeError:
        return False
    return x is None or type(x).__eq__ is not object.__eq__


def as_data(tree: Any) -> Any:
    """A learner or an algorithm as programs take it: its leaves are arrays of jax.

    All that are of one structure have the same object for it, which costs calls no comparison.
    """
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(first_equal(structure), map(jnp.asarray, leaves))


@lru_cache(KEPT)
def first_equal(structure: Any) -> Any:
    """The structure equal to this one that was asked for first."""
    return structure


caches.append(first_equal)
