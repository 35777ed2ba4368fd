"""What the off-policy actor-critics share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from parl.algorithms.shared import critics
from parl.algorithms.shared.critics import every_n, in_lockstep, init_net
from parl.models.torsos import UnitDense


def counting(state: Any, period: int) -> Any:
    """One more update; the policy's counter goes up every `period` of them."""
    count, policy = state[0] + 1, state[1]
    step = lambda: (policy + 1, {"loss": jnp.float32(3)})
    policy, metrics = every_n(period, count, step, policy)
    return (count, policy), metrics["loss"]


def zeros(*shape: int) -> Any:
    return jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32)


def test_every_third_update() -> None:
    run = jax.jit(lambda s: jax.lax.scan(lambda s, _: counting(s, 3), s, length=7))
    (count, policy), losses = run(zeros())
    assert (count, policy) == (7, 2)
    np.testing.assert_array_equal(losses, [0, 0, 9, 0, 0, 9, 0])
    np.testing.assert_allclose(losses[:6].mean(), 3)  # the mean of the losses there were


def test_every_update() -> None:
    (count, policy), loss = counting(zeros(), 1)
    assert (count, policy, loss) == (1, 1, 3)


def test_a_branch_stays_a_branch_for_several_seeds() -> None:
    """Else a delayed policy would cost as much as one that is not."""
    several = jax.jit(jax.vmap(lambda s: counting(s, 2)))
    (count, policy), loss = several(zeros(4))
    np.testing.assert_array_equal([count, policy], [[1] * 4, [0] * 4])
    (_, policy), loss = several((count, policy))
    np.testing.assert_array_equal(policy, [1] * 4)
    np.testing.assert_array_equal(loss, [6] * 4)
    assert " conditional(" in str(several.lower(zeros(4)).compile().as_text())


def test_lockstep_of_one() -> None:
    assert in_lockstep(jnp.int32(5)) == 5
    assert jax.vmap(in_lockstep)(jnp.array([5, 5])).tolist() == [5, 5]


def test_weights_of_fixed_norm_start_and_stay_there() -> None:
    layer, x = UnitDense(2), np.ones((4, 5), np.float32)
    optimizer = optax.adam(0.1)
    net = init_net(optimizer, layer.init(jax.random.key(0), x))
    loss = lambda params: (jnp.sum(layer.apply(params, x) - 3.0) ** 2, ({}, {}))  # type: ignore
    for _ in range(3):
        before = net.params["params"]["unit_kernel"]
        net, _ = critics.learn(optimizer, loss, net)
        kernel = net.params["params"]["unit_kernel"]
        np.testing.assert_allclose((kernel**2).sum(0), [1, 1], rtol=1e-5)
        assert (kernel != before).any()
