"""Random numbers from a key of JAX or from a generator of NumPy.

A key is used once, and the same one gives the same numbers on any device. A generator moves on with
every call; it needs no compiled program, which is several times as fast for data in host memory.
"""

from typing import Any

import jax
import numpy as np

from parl.core.types import Array

Source = Array | np.random.Generator


def split(source: Source, count: int = 2) -> list[Any]:
    """`count` sources; a generator serves for all."""
    if isinstance(source, np.random.Generator):
        return [source] * count
    return list(jax.random.split(source, count))


def uniform(source: Source, shape: tuple[int, ...]) -> Any:
    """Numbers [*shape] float32, uniform in [0, 1)."""
    if isinstance(source, np.random.Generator):
        return source.random(shape, np.float32)
    return jax.random.uniform(source, shape)


def integers(source: Source, shape: tuple[int, ...], end: Any) -> Any:
    """Numbers [*shape] int32, uniform in 0 to end - 1."""
    if isinstance(source, np.random.Generator):
        return source.integers(0, end, shape, np.int32)
    return jax.random.randint(source, shape, 0, end)
