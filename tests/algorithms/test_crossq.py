"""CrossQ: one pass for both, and no target network."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from critical import ACTOR, BATCH, KEY, SPEC
from handmade import Function

from parl.algorithms.crossq import CrossQ
from parl.algorithms.sac import SAC
from parl.models import Ensemble, TanhNormalPolicy
from parl.models.control import Critic
from parl.models.torsos import BatchNormMLP

# two critics p_c obs + action, less the mean over their batch
CENTRED = Function(
    lambda p, obs, action: (lambda q: q - q.mean(1, keepdims=True))(
        p[:, None] * obs[:, 0] + action[:, 0]
    ),
    jnp.array([1.0, 2.0]),
)
BY_HAND = CrossQ(
    actor=ACTOR, critic=CENTRED, gamma=0.5, initial_temperature=2.0, target_entropy=1.5
)


def test_bellman_residual_of_one_batch() -> None:
    """Inputs (obs, action): (1, .5), (2, -.5) and next (2, 1), (4, 2).

    The first critic has 1.5, 1.5, 3, 6, less their mean of 3; the second 2.5, 3.5, 5, 10, less
    5.25. Next values min(0, -0.25) + 2 * 2.5; the target 1 + 0.5 * 4.75 = 3.375; the other: -1.
    """
    state = BY_HAND.init(KEY, SPEC)
    loss, _ = BY_HAND.critic_loss(CENTRED.params, state, BATCH, KEY, KEY)
    q = np.array([[1.5 - 3, 1.5 - 3], [2.5 - 5.25, 3.5 - 5.25]])
    np.testing.assert_allclose(loss, 0.5 * ((q - [3.375, -1]) ** 2).mean(-1).sum(), rtol=1e-6)


def test_no_gradient_flows_to_the_next_values() -> None:
    """d loss / d p_c = mean of error * d q / d p, with d q / d p = obs less 9/4, the mean."""
    state = BY_HAND.init(KEY, SPEC)
    loss = lambda p: BY_HAND.critic_loss(p, state, BATCH, KEY, KEY)[0]
    error = np.array([[-1.5 - 3.375, -1.5 + 1], [-2.75 - 3.375, -1.75 + 1]])
    expected = (error * (np.array([1, 2]) - 2.25)).mean(-1)
    np.testing.assert_allclose(jax.grad(loss)(CENTRED.params), expected, rtol=1e-5)


def real(kind: type[SAC]) -> SAC:
    space = SPEC.observation_space
    critic = Ensemble(Critic(space, BatchNormMLP((8,), renorm_after=0)), 2)
    return kind(actor=TanhNormalPolicy(space, 1, BatchNormMLP((8,))), critic=critic)


@pytest.fixture(scope="module")
def state() -> Any:
    return jax.jit(lambda key: real(CrossQ).init(key, SPEC))(KEY)


def test_there_is_no_target(state: Any) -> None:
    after, metrics = jax.jit(real(CrossQ).update)(state, BATCH, KEY)
    assert state.target == () and after.target == ()
    assert np.isfinite(metrics["critic_loss"])


def test_statistics_are_those_of_both_batches_together(state: Any) -> None:
    """SAC's own pass would normalise the next actions by moments that have not seen them."""
    action, params = jnp.array([[0.9], [-0.7]]), state.critic.params
    _, joint, new = real(CrossQ).critic_values(params, (), BATCH, action, KEY)
    first = new["batch_stats"]["member"]["torso"]["BatchNorm_0"]
    obs = np.concatenate([BATCH.obs, BATCH.next_obs])
    inputs = np.concatenate([obs, np.concatenate([BATCH.action, action])], -1)
    np.testing.assert_allclose(first["mean"], 0.01 * np.stack([inputs.mean(0)] * 2), rtol=1e-5)
    _, apart, other = real(SAC).critic_values(params, params, BATCH, action, KEY)
    np.testing.assert_allclose(
        other["batch_stats"]["member"]["torso"]["BatchNorm_0"]["mean"][0, 0],
        0.01 * BATCH.obs.mean(),
        rtol=1e-5,
    )
    assert (np.abs(joint.mean - apart.mean) > 1e-3).all()


def test_policy_acts_by_frozen_statistics(state: Any) -> None:
    """Of an observation alone and among others, the action is the same."""
    rule = real(CrossQ)
    trained, _ = jax.jit(rule.update)(state, BATCH, KEY)
    assert trained.actor.params["batch_stats"]["torso"]["BatchNorm_0"]["mean"] != 0
    policy = rule.policy(trained)
    act = lambda obs: rule.act(policy, obs, (), KEY, False)[0]
    obs = np.array([[3.0], [-1.0], [0.5]], np.float32)
    np.testing.assert_allclose(act(obs)[:1], act(obs[:1]), rtol=1e-5)
