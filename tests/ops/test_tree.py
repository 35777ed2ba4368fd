import jax.numpy as jnp
import numpy as np
import pytest

from parl import ops


def test_expand_like_appends_axes():
    assert ops.expand_like(jnp.zeros((4, 2)), jnp.zeros((4, 2, 3, 5))).shape == (4, 2, 1, 1)
    assert ops.expand_like(jnp.zeros((4, 2)), jnp.zeros((4, 2))).shape == (4, 2)
    assert ops.expand_like(0.5, jnp.zeros((4, 2))).shape == (1, 1)


def test_expand_like_refuses_a_higher_rank():
    with pytest.raises(ValueError, match="more axes"):
        ops.expand_like(jnp.zeros((4, 2)), jnp.zeros(4))


def test_where_first_broadcasts_over_every_leaf():
    first = jnp.array([True, False, True])
    fresh = {"h": jnp.zeros((3, 2)), "t": jnp.zeros(3, jnp.int32)}
    old = {"h": jnp.array([[1.0, 2], [3, 4], [5, 6]]), "t": jnp.array([7, 8, 9])}
    out = ops.where_first(first, fresh, old)
    np.testing.assert_array_equal(out["h"], [[0, 0], [3, 4], [0, 0]])
    np.testing.assert_array_equal(out["t"], [0, 8, 0])
    assert out["t"].dtype == jnp.int32
    assert ops.where_first(first, (), ()) == ()
