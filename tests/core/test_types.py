"""One step of an optimiser, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from parl.core.types import Net, Rollout, Step, descend


def loss(params: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    error = params[0] * x + params[1] - y
    return error**2, {"error": error}


def test_descend_takes_the_step_of_plain_gradient_descent() -> None:
    """p = (2, 1), x = 3, y = 5: error 2, gradient 2 * 2 * (3, 1) = (12, 4), rate 0.1."""
    optimizer = optax.sgd(0.1)
    params = jnp.array([2.0, 1.0])
    net, metrics = descend(optimizer, loss, Net(params, optimizer.init(params)), 3.0, 5.0)
    np.testing.assert_allclose(net.params, [2 - 1.2, 1 - 0.4], rtol=1e-6)
    assert metrics["error"] == 2.0


def test_descend_carries_the_optimiser_state() -> None:
    """Momentum 0.5: the second trace is g2 + 0.5 * g1."""
    optimizer = optax.sgd(0.1, momentum=0.5)
    params = jnp.array([2.0, 1.0])
    net = Net(params, optimizer.init(params))
    net, _ = descend(optimizer, loss, net, 3.0, 5.0)
    net, metrics = descend(optimizer, loss, net, 3.0, 5.0)
    # after the first: p = (0.8, 0.6), error = 2.4 + 0.6 - 5 = -2, gradient = (-12, -4)
    np.testing.assert_allclose(metrics["error"], -2.0, rtol=1e-6)
    np.testing.assert_allclose(net.params, [0.8 - 0.1 * -6, 0.6 - 0.1 * -2], rtol=1e-6)


def test_descend_hands_the_parameters_to_decoupled_weight_decay() -> None:
    optimizer = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(1.0))
    params = jnp.array([2.0, 1.0])
    net, _ = descend(optimizer, loss, Net(params, optimizer.init(params)), 0.0, 1.0)
    np.testing.assert_allclose(net.params, [1.0, 0.5], rtol=1e-6)  # no gradient: halved


def test_a_rollout_is_a_tree_of_its_steps() -> None:
    x = jnp.zeros((2, 3))
    step = Step(x, x, x, x, x, x > 0, x > 0, {"log_prob": x})
    leaves = jax.tree.leaves(Rollout(step, {"rnn": x[0]}))
    assert len(leaves) == 9
