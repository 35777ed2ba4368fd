"""A2C's equations with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import ADDING_ACTOR, ADDING_CRITIC, Function, played, steps

from parl import ops
from parl.algorithms.a2c import A2C
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Rollout

SPEC = EnvSpec("test", Box((1,)), Discrete(2))

# The actor's probabilities do not depend on obs; the critic is linear in it.
ACTOR = Function(
    lambda p, obs: ops.Categorical(jnp.broadcast_to(p, (*obs.shape[:-1], 2))), jnp.zeros(2)
)
CRITIC = Function(lambda p, obs: p * obs[..., 0], jnp.ones(()))
PARAMS = {"actor": jnp.array([np.log(3), 0.0], jnp.float32), "critic": jnp.float32(1)}
ENTROPY = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))

# Two steps with V = (1, 2), then 4: G_1 = 20 + 0.5 * 4 = 22 and G_0 = 10 + 0.5 * 22 = 21.
ROLLOUT = Rollout(
    steps(
        obs=[[[1.0]], [[2.0]]],
        next_obs=[[[2.0]], [[4.0]]],
        reward=[[10.0], [20.0]],
        action=[[0], [1]],
        extras={"log_prob": np.log([[0.75], [0.25]])},
    ),
    (),
)


def make(**settings: Any) -> A2C:
    return A2C(actor=ACTOR, critic=CRITIC, gamma=0.5, **settings)


def test_policy_gradient_value_error_and_entropy() -> None:
    loss, metrics = make(entropy_cost=0.1, value_cost=0.25).loss(PARAMS, ROLLOUT)
    policy_loss = -(20 * np.log(0.75) + 20 * np.log(0.25)) / 2
    np.testing.assert_allclose(metrics["policy_loss"], policy_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["value_loss"], 0.5 * (20**2 + 20**2) / 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["entropy"], ENTROPY, rtol=1e-6)
    np.testing.assert_allclose(loss, policy_loss + 0.25 * 200 - 0.1 * ENTROPY, rtol=1e-5)


def test_gradients_hold_advantages_and_targets_fixed() -> None:
    grads = jax.grad(lambda p: make(value_cost=1.0).loss(p, ROLLOUT)[0])(PARAMS)
    # -(20 (1 - 0.75) + 20 (0 - 0.75)) / 2 for the first logit; (V - G) obs for the critic
    np.testing.assert_allclose(grads["actor"], [5, -5], rtol=1e-5)
    np.testing.assert_allclose(grads["critic"], (-20 * 1 - 20 * 2) / 2, rtol=1e-6)


def test_lambda_shortens_the_returns() -> None:
    """One step: 10 + 0.5 * 2 - 1 and 20 + 0.5 * 4 - 2."""
    _, metrics = make(lambda_=0.0).loss(PARAMS, ROLLOUT)
    np.testing.assert_allclose(metrics["value_loss"], 0.5 * (10**2 + 20**2) / 2, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_an_update_is_one_step_of_rmsprop_on_the_clipped_gradient(epsilon: float) -> None:
    algorithm = make(learning_rate=0.01, max_grad_norm=0.1, rms_epsilon=epsilon)
    state = algorithm.init(jax.random.key(0), SPEC)
    grads = jax.device_get(jax.grad(lambda p: algorithm.loss(p, ROLLOUT)[0])(state.net.params))
    norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads)))
    assert norm > 1
    new, metrics = jax.jit(algorithm.update)(state, ROLLOUT, jax.random.key(0))
    for name in ("actor", "critic"):
        g = 0.1 * grads[name] / norm
        step = -0.01 * g / np.sqrt(g**2 + epsilon)  # the average, 0.01 g^2, corrected for its start
        moved = new.net.params[name] - state.net.params[name]
        np.testing.assert_allclose(moved, step, rtol=1e-4)
    assert set(metrics) == {"policy_loss", "value_loss", "entropy"}


def test_it_learns_with_memory() -> None:
    algorithm = A2C(actor=ADDING_ACTOR, critic=ADDING_CRITIC, gamma=0.5)
    state = algorithm.init(jax.random.key(0), SPEC)
    rollout = played(algorithm, state)[1]
    _, value, next_value = algorithm.values_of(state.net.params, rollout)
    advantage, _ = algorithm.targets(value, algorithm.transitions(rollout.steps, value, next_value))
    log_prob = rollout.steps.extras["log_prob"]
    _, metrics = algorithm.loss(state.net.params, rollout)
    np.testing.assert_allclose(metrics["policy_loss"], -np.mean(log_prob * advantage), rtol=1e-4)
    np.testing.assert_allclose(metrics["value_loss"], 0.5 * np.mean(advantage**2), rtol=1e-4)

    assert not make().tolerates_lag
