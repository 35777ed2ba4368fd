"""Pure functions as programs."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


class Constant:
    """What is no array. The same is only the same object: 1 is also True, and equal boxes may have
    other bounds.
    """

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: Any) -> bool:
        return self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


ARRAY = Constant(object())  # in the place of an array


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A pure function as one program; called eagerly, each of its operations would be one.

    What is no array is a constant of the program. Within another program the function is traced as
    if it were not compiled.
    """

    @functools.lru_cache
    def program(tree: Any, constants: tuple[Constant, ...]) -> Any:
        def run(arrays: list[Any]) -> Any:
            rest = iter(arrays)
            leaves = [next(rest) if x is ARRAY else x.value for x in constants]
            args, keywords = jax.tree.unflatten(tree, leaves)
            return function(*args, **keywords)

        return jax.jit(run, inline=True)

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, keywords))
        arrays = [x for x in leaves if is_array(x)]
        constants = tuple(ARRAY if is_array(x) else Constant(x) for x in leaves)
        return program(tree, constants)(arrays)

    return call


def is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic) and x.dtype != object
