"""IMPALA's V-trace with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from handmade import ADDING_ACTOR, ADDING_CRITIC, played
from test_a2c import ACTOR, CRITIC, ENTROPY, PARAMS, ROLLOUT, SPEC

from parl.algorithms.a2c import A2C
from parl.algorithms.impala import IMPALA


def make(kind: Any = IMPALA, **settings: Any) -> Any:
    return kind(actor=ACTOR, critic=CRITIC, gamma=0.5, **settings)


def acted(*probabilities: float) -> Any:
    """The rollout of A2C's test by a policy that gave its two actions these probabilities."""
    log_prob = np.log(np.array(probabilities, np.float32))[:, None]
    return ROLLOUT._replace(steps=ROLLOUT.steps._replace(extras={"log_prob": log_prob}))


# The learned policy gives the actions 0.75 and 0.25; the acting one gave them 0.5 and 1, so that
# the ratios are 1.5, truncated at 1, and 0.25. V = (1, 2), then 4; deltas 10 and 20.
LAGGING = acted(0.5, 1.0)
V1, V0 = 2 + 0.25 * 20, 1 + 1 * (10 + 0.5 * (0.25 * 20))  # eq. 1
ADVANTAGES = np.array([10 + 0.5 * V1 - 1, 0.25 * (20 + 0.5 * 4 - 2)])  # r + gamma v' - V


def test_losses_of_a_lagging_rollout() -> None:
    loss, metrics = make(entropy_cost=0.1).loss(PARAMS, LAGGING)
    policy_loss = -np.mean(ADVANTAGES * np.log([0.75, 0.25]))
    value_loss = 0.5 * np.mean([(V0 - 1) ** 2, (V1 - 2) ** 2])
    np.testing.assert_allclose(ADVANTAGES, [12.5, 5.0])
    np.testing.assert_allclose(metrics["policy_loss"], policy_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["value_loss"], value_loss, rtol=1e-5)
    np.testing.assert_allclose(loss, policy_loss + 0.5 * value_loss - 0.1 * ENTROPY, rtol=1e-5)


def test_gradients_hold_ratios_and_targets_fixed() -> None:
    grads = jax.grad(lambda p: make(value_cost=1.0).loss(p, LAGGING)[0])(PARAMS)
    first = -np.mean(ADVANTAGES * [0.25, -0.75])
    np.testing.assert_allclose(grads["actor"], [first, -first], rtol=1e-5)
    np.testing.assert_allclose(grads["critic"], np.mean([(1 - V0) * 1, (2 - V1) * 2]), rtol=1e-5)


def test_without_lag_it_is_a2c() -> None:
    ours, theirs = (make(kind, entropy_cost=0.1) for kind in (IMPALA, A2C))
    states = [
        a.update(a.init(jax.random.key(0), SPEC), acted(0.5, 0.5), jax.random.key(0))[0]
        for a in (ours, theirs)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *states)
    memory: Any = {"actor": ADDING_ACTOR, "critic": ADDING_CRITIC}
    state = IMPALA(**memory).init(jax.random.key(0), SPEC)
    for rollout in played(IMPALA(**memory), state):
        losses = [kind(**memory).loss(state.net.params, rollout)[0] for kind in (IMPALA, A2C)]
        np.testing.assert_allclose(*losses, rtol=1e-4)


def test_actions_that_would_not_be_taken_any_more_teach_nothing() -> None:
    params = PARAMS | {"actor": jnp.array([0.0, 100.0])}
    grads = jax.grad(lambda p: make().loss(p, acted(0.5, 0.5))[0])(params)
    assert grads["critic"] != 0, "the second step's action still would"
    first = jax.tree.map(lambda x: x[:1], acted(0.5, 0.5).steps)
    grads = jax.grad(lambda p: make().loss(p, LAGGING._replace(steps=first))[0])(params)
    jax.tree.map(lambda g: np.testing.assert_allclose(g, 0, atol=1e-6), grads)


def test_it_tolerates_lag() -> None:
    assert make().tolerates_lag
