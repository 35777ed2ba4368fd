import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl import ops
from parl.core.spec import Box, Discrete, MultiDiscrete

Q = jnp.array([[1.0, 3, 2], [0, -1, -2]])
LEGAL = jnp.array([[True, False, True], [False, True, True]])
KEY = jax.random.key(0)


def frequencies(actions, n):
    """Shares [B, n] of each action in draws [K, B]."""
    return np.stack([np.bincount(column, minlength=n) for column in np.array(actions).T]) / len(
        actions
    )


def draw(function, count=4000):
    return jax.jit(jax.vmap(function))(jax.random.split(KEY, count))


def test_mask_illegal():
    masked = ops.mask_illegal(Q, LEGAL)
    np.testing.assert_array_equal(jnp.argmax(masked, -1), [2, 1])
    np.testing.assert_array_equal(masked, [[1, -1e9, 2], [-1e9, -1, -2]])
    np.testing.assert_array_equal(ops.mask_illegal(Q, LEGAL.astype(jnp.int8)), masked)


def test_no_legal_action_at_all_gives_no_nan():
    nothing = ops.mask_illegal(Q, jnp.zeros_like(LEGAL))
    np.testing.assert_array_equal(1.0 + 0.0 * nothing.max(-1), [1, 1])


def test_select():
    np.testing.assert_array_equal(ops.select(Q, jnp.array([2, 0])), [2, 0])
    assert ops.select(jnp.arange(24.0).reshape(2, 3, 4), jnp.ones((2, 3), jnp.int32)).tolist() == [
        [1, 5, 9],
        [13, 17, 21],
    ]
    with pytest.raises(ValueError, match="one axis more"):
        ops.select(Q, jnp.array([[2], [0]]))


def test_huber():
    error = jnp.array([-3.0, -1, -0.5, 0, 0.5, 2])
    np.testing.assert_allclose(ops.huber(error), [2.5, 0.5, 0.125, 0, 0.125, 1.5])
    np.testing.assert_allclose(ops.huber(error, 2.0), [4, 0.5, 0.125, 0, 0.125, 2])
    slope = jax.vmap(jax.grad(ops.huber))(error)
    np.testing.assert_allclose(slope, [-1, -1, -0.5, 0, 0.5, 1])


def test_epsilon_zero_is_greedy_and_legal():
    action = ops.epsilon_greedy(KEY, Q, 0.0)
    np.testing.assert_array_equal(action, [1, 0])
    assert action.dtype == jnp.int32
    np.testing.assert_array_equal(ops.epsilon_greedy(KEY, Q, 0.0, LEGAL), [2, 1])


def test_epsilon_greedy_frequencies():
    # greedy 1 - 0.6 + 0.6 / 3 = 0.6, the others 0.2 each; with the mask 0.7 against 0.3
    share = frequencies(draw(lambda key: ops.epsilon_greedy(key, Q, 0.6)), 3)
    np.testing.assert_allclose(share, [[0.2, 0.6, 0.2], [0.6, 0.2, 0.2]], atol=0.03)
    share = frequencies(draw(lambda key: ops.epsilon_greedy(key, Q, 0.6, LEGAL)), 3)
    np.testing.assert_allclose(share, [[0.3, 0, 0.7], [0, 0.7, 0.3]], atol=0.03)
    assert share[0, 1] == 0 and share[1, 0] == 0


def test_epsilon_per_environment_reaches_every_agent():
    q = jnp.zeros((2, 50, 3)).at[..., 1].set(1.0)
    action = ops.epsilon_greedy(KEY, q, jnp.array([0.0, 1.0]))
    assert action.shape == (2, 50)
    assert (action[0] == 1).all() and set(action[1].tolist()) == {0, 1, 2}


def test_uniform_box():
    action = ops.uniform_action(KEY, Box((3,)), (2000, 2))
    assert action.shape == (2000, 2, 3) and action.dtype == jnp.float32
    assert action.min() >= -1 and action.max() <= 1
    np.testing.assert_allclose(action.mean(), 0, atol=0.03)
    np.testing.assert_allclose(action.var(), 1 / 3, atol=0.02)


def test_uniform_discrete():
    action = ops.uniform_action(KEY, Discrete(4), (4000, 1))
    assert action.shape == (4000, 1) and action.dtype == jnp.int32
    np.testing.assert_allclose(frequencies(action, 4), [[0.25] * 4], atol=0.03)


def test_uniform_discrete_among_legal():
    action = draw(lambda key: ops.uniform_action(key, Discrete(3), (2,), LEGAL))
    assert action.dtype == jnp.int32
    share = frequencies(action, 3)
    np.testing.assert_allclose(share, [[0.5, 0, 0.5], [0, 0.5, 0.5]], atol=0.03)
    assert share[0, 1] == 0 and share[1, 0] == 0
    with pytest.raises(ValueError, match=r"legal \(2, 3\) must be \(5, 3\)"):
        ops.uniform_action(KEY, Discrete(3), (5,), LEGAL)


def test_uniform_multi_discrete():
    action = ops.uniform_action(KEY, MultiDiscrete((2, 5)), (3000,))
    assert action.shape == (3000, 2) and action.dtype == jnp.int32
    share = frequencies(action, 5)
    np.testing.assert_allclose(share, [[0.5, 0.5, 0, 0, 0], [0.2] * 5], atol=0.03)


def test_uniform_refuses_what_is_no_action_space():
    with pytest.raises(ValueError, match="cannot be drawn"):
        ops.uniform_action(KEY, {"a": Discrete(3)}, (2,))


def test_huber_of_huge_and_infinite_errors():
    error = jnp.array([0.5, 1e30, jnp.inf])
    np.testing.assert_allclose(ops.huber(error), [0.125, 1e30, np.inf])
    slopes = jax.vmap(jax.grad(ops.huber))(jnp.array([0.5, -1.0, 1e30, -jnp.inf]))
    np.testing.assert_array_equal(slopes, [0.5, -1, 1, -1])


def test_huber_with_an_infinite_delta_is_half_the_square():
    error = jnp.array([0.0, 2, -1e10])
    np.testing.assert_allclose(ops.huber(error, jnp.inf), [0, 2, 5e19])
    slopes = jax.vmap(jax.grad(lambda x: ops.huber(x, jnp.inf)))(error)
    np.testing.assert_allclose(slopes, error)


def test_rows_without_a_legal_action_are_free():
    legal = jnp.zeros((4000, 3), bool)
    drawn = ops.uniform_action(KEY, Discrete(3), (4000,), legal)
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, [1 / 3] * 3, atol=0.04)
