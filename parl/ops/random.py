"""Random permutations."""

import jax
import jax.numpy as jnp

from parl.core.types import Array


def permutation(key: Array, n: int) -> Array:
    """A random permutation of 0 .. n - 1: [n] int32.

    Sorts random words whose low bits hold the index. XLA sorts one operand without a custom
    comparison much faster on CPUs than what jax.random.permutation sorts. Two indices keep their
    natural order if their upper bits agree, which for n = 2048 happens to one pair in two million.
    For n beyond 65536 this is too frequent, and jax.random.permutation is used.
    """
    bits = max(n - 1, 1).bit_length()
    if bits > 16:
        return jax.random.permutation(key, n)
    words = jax.random.bits(key, (n,), jnp.uint32)
    packed = (words >> bits << bits) | jnp.arange(n, dtype=jnp.uint32)
    return (jnp.sort(packed) & (2**bits - 1)).astype(jnp.int32)
