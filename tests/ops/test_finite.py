"""Numbers that can be learned from, and products with zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl import ops


@pytest.mark.parametrize("xp", [np, jnp])
def test_usable(xp):
    x = xp.array([[1.0, 2], [np.nan, 0], [0, -np.inf], [1e19, -1e19], [2e19, 0]], "float32")
    tree = {"x": x, "n": xp.full((5, 2, 3), 2**31 - 1, "int32")}
    np.testing.assert_array_equal(ops.is_usable(tree, 1), [True, False, False, True, False])
    np.testing.assert_array_equal(ops.is_usable(x, 2)[:3], [[1, 1], [0, 1], [1, 0]])
    assert not ops.is_usable(tree) and ops.is_usable(x[:1])


def test_numbers_without_a_point_are_usable():
    assert ops.is_usable({"pixels": np.full((2, 3), 255, np.uint8), "last": np.ones(2, bool)})
    half = jnp.array([1.0, jnp.inf], jnp.float16)
    np.testing.assert_array_equal(ops.is_usable(half, 1), [True, False])


def test_zero_times_anything_is_zero():
    weight, x = jnp.array([0.0, 0, 0, 2]), jnp.array([jnp.nan, jnp.inf, 3, 4])
    np.testing.assert_array_equal(ops.weighted(weight, x), [0, 0, 0, 8])
    gradient = jax.grad(lambda w, x: ops.weighted(w, x).sum(), (0, 1))(weight, x)
    np.testing.assert_array_equal(gradient, [[0, 0, 0, 4], [0, 0, 0, 2]])
