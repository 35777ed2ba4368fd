"""Random orders are permutations, uniform, and differ by key."""

import jax
import numpy as np
import pytest

from parl import ops


@pytest.mark.parametrize("n", [1, 2, 5, 512, 70_000])
def test_every_index_once(n: int) -> None:
    order = np.asarray(ops.permutation(jax.random.key(3), n))
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_all_orders_of_three_are_equally_likely() -> None:
    keys = jax.random.split(jax.random.key(0), 6_000)
    orders = np.asarray(jax.vmap(lambda key: ops.permutation(key, 3))(keys))
    codes = orders @ np.array([9, 3, 1])
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == 6
    chi_squared = ((counts - 1_000) ** 2 / 1_000).sum()
    assert chi_squared < 20.5  # the 0.1 % point for 5 degrees of freedom


def test_vmapped_equals_one_by_one() -> None:
    keys = jax.random.split(jax.random.key(1), 4)
    together = jax.vmap(lambda key: ops.permutation(key, 100))(keys)
    for key, order in zip(keys, together, strict=True):
        np.testing.assert_array_equal(ops.permutation(key, 100), order)
