"""REINFORCE with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from handmade import steps
from test_a2c import ACTOR, ENTROPY, PARAMS, SPEC

from parl.algorithms.pg import PG, PGState
from parl.core.types import Net, Rollout

YES, NO = True, False

# Three environments, four steps, gamma = 0.5. The first ends at t = 1 by termination and goes on
# unfinished; the second is cut at t = 3 by a time limit; the third does not end at all.
STEPS = steps(
    obs=np.zeros((4, 3, 1)),
    next_obs=np.zeros((4, 3, 1)),
    reward=[[2.0, 1.0, 9.0], [4.0, 0.0, 9.0], [9.0, 2.0, 9.0], [9.0, 4.0, 9.0]],
    discount=[[1.0, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]],
    last=[[NO, NO, NO], [YES, NO, NO], [NO, NO, NO], [NO, YES, NO]],
    action=[[0, 0, 1], [1, 0, 1], [0, 1, 0], [0, 1, 0]],
)
WHOLE = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]])
RETURNS = np.array([[2 + 0.5 * 4, 1 + 0.25 * 4, 0], [4, 2, 0], [0, 4, 0], [0, 4, 0]])
COUNTED = RETURNS[WHOLE == 1]  # 4, 2, 4, 2, 4, 4
WEIGHTS = WHOLE * (RETURNS - COUNTED.mean()) / COUNTED.std()


def make(**settings: Any) -> PG:
    return PG(actor=ACTOR, gamma=0.5, **settings)


def test_returns_of_whole_episodes() -> None:
    weight, whole = make().weights(STEPS)
    np.testing.assert_array_equal(whole, WHOLE)
    np.testing.assert_allclose(weight, WEIGHTS, rtol=1e-5)


def test_loss() -> None:
    loss, metrics = make(entropy_cost=0.1).loss(PARAMS["actor"], STEPS)
    log_prob = np.log(np.where(STEPS.action == 0, 0.75, 0.25))
    policy_loss = -np.mean(WEIGHTS * log_prob)
    np.testing.assert_allclose(metrics["policy_loss"], policy_loss, rtol=1e-5)
    np.testing.assert_allclose(loss, policy_loss - 0.1 * ENTROPY, rtol=1e-5)
    np.testing.assert_allclose(metrics["used"], 0.5)


def test_gradient() -> None:
    """Of the first logit: minus the mean of weight * (1 or 0 - 0.75)."""
    grad = jax.grad(lambda p: make().loss(p, STEPS)[0])(PARAMS["actor"])
    expected = -np.mean(WEIGHTS * ((STEPS.action == 0) - 0.75))
    np.testing.assert_allclose(grad, [expected, -expected], rtol=1e-5)


def test_without_a_whole_episode_nothing_is_learned() -> None:
    batch = Rollout(STEPS._replace(last=np.zeros((4, 3), bool)), ())
    state = make().init(jax.random.key(0), SPEC)
    new, metrics = jax.jit(make().update)(state, batch, jax.random.key(0))
    np.testing.assert_array_equal(new.actor.params, state.actor.params)
    assert metrics["used"] == 0 and metrics["policy_loss"] == 0


def test_updates_raise_the_probability_of_what_returned_more() -> None:
    """Action 1 ends with 4 more often than action 0 does."""
    algorithm = make(learning_rate=0.1)
    state, batch = algorithm.init(jax.random.key(0), SPEC), Rollout(STEPS, ())
    update = jax.jit(algorithm.update)
    for _ in range(3):
        state, _ = update(state, batch, jax.random.key(0))
    assert jax.nn.softmax(state.actor.params)[1] > 0.6


def test_acting() -> None:
    algorithm, obs = make(), jnp.zeros((1000, 1))
    policy = algorithm.policy(PGState(Net(PARAMS["actor"], ())))
    action, memory, extras = algorithm.act(policy, obs, (), jax.random.key(0), explore=True)
    np.testing.assert_allclose(np.mean(action == 0), 0.75, atol=0.05)
    assert memory == () and extras == {} and not algorithm.tolerates_lag
    assert not algorithm.act(policy, obs, (), jax.random.key(0), explore=False)[0].any()
