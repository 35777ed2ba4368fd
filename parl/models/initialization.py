"""Initial weights."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax

from parl.core.types import Array


@dataclass(frozen=True)
class Uniform:
    """Weights between -bound and bound; of one bound all are equal."""

    bound: float

    def __call__(self, key: Array, shape: Any, dtype: Any = jax.numpy.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -self.bound, self.bound)


@dataclass(frozen=True)
class Orthogonal:
    """Orthogonal weights times `scale`.

    Saxe et al. 2014, arXiv:1312.6120. Under vmap, as for the members of an ensemble, the
    factorisations run in sequence. One batched factorisation compiles slowly, and two at a time can
    deadlock on a CPU with two cores, because jaxlib 0.10.2 waits inside a worker thread for the
    other workers.
    """

    scale: float

    def __call__(self, key: Array, shape: Any, dtype: Any = jax.numpy.float32) -> Array:
        draw = nn.initializers.orthogonal(self.scale)
        data = jax.random.key_data(key)  # batching rules know arrays, not typed keys
        implementation = jax.random.key_impl(key)

        @jax.custom_batching.sequential_vmap
        def one(data: Array) -> Array:
            return draw(jax.random.wrap_key_data(data, impl=implementation), shape, dtype)

        return one(data)


def orthogonal(scale: float) -> Any:
    """The initialiser of orthogonal weights; of one scale all are equal."""
    return Orthogonal(scale)
