"""SAC's equations with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from handmade import Function, foreign_words, line_count, steps

from parl.algorithms import sac
from parl.algorithms.sac import SAC, SACState
from parl.core.spec import Box, EnvSpec
from parl.models import MLP, ActionValue, Ensemble, TanhNormalPolicy

SPEC = EnvSpec("test", Box((1,)), Box((1,), low=-1.0, high=1.0))


class Certain(struct.PyTreeNode):
    """A distribution whose sample [B, 1] and log-probability [B] are given."""

    action: jax.Array
    log_prob: jax.Array

    def sample_and_log_prob(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.action, self.log_prob


# action = p obs with log-probability p - 3; q_c = w_c obs + v_c action, for two critics
ACTOR = Function(lambda p, obs: Certain(p * obs, p - 3 + 0 * obs[:, 0]), jnp.float32(0.5))
CRITIC = Function(
    lambda p, obs, action: p["w"][:, None] * obs[:, 0] + p["v"][:, None] * action[:, 0],
    {"w": jnp.array([1.0, 2.0]), "v": jnp.array([1.0, -1.0])},
)
TARGET = {"w": jnp.array([3.0, 1.0]), "v": jnp.array([0.0, 2.0])}
BATCH = steps(
    obs=[[1.0], [2.0]],
    action=[[0.5], [-0.5]],
    next_obs=[[2.0], [4.0]],
    reward=[1.0, -1.0],
    discount=[1.0, 0.0],
)
ALGORITHM = SAC(actor=ACTOR, critic=CRITIC, gamma=0.5, learning_rate=0.01, target_entropy=1.5)


def initial() -> SACState:
    """With the target's own weights and a temperature of 2."""
    state = ALGORITHM.init(jax.random.key(0), SPEC)
    return state.replace(alpha=ALGORITHM.net(jnp.log(jnp.float32(2))), target=TARGET)


def test_soft_bellman_residual() -> None:
    """Next actions 1 and 2 of log-probability -2.5. Target critics at (2, 1): 6 and 4.

    So next_v = min(6, 4) + 2 * 2.5 = 9 and the target 1 + 0.5 * 9 = 5.5; the other ended: -1.
    """
    q = np.array([[1 + 0.5, 2 - 0.5], [2 - 0.5, 4 + 0.5]])
    expected = 0.5 * ((q - [5.5, -1]) ** 2).mean(-1).sum()
    params, key = ALGORITHM.critic.init(key=None), jax.random.key(0)
    loss, metrics = ALGORITHM.critic_loss(params, initial(), BATCH, key)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["q"], q.mean(), rtol=1e-6)


def test_critic_targets_carry_no_gradient() -> None:
    """d loss / d w_c = mean over the batch of (q_c - target) obs."""
    grad = jax.grad(lambda p: ALGORITHM.critic_loss(p, initial(), BATCH, jax.random.key(0))[0])
    error = np.array([[1.5 - 5.5, 1.5 + 1], [1.5 - 5.5, 4.5 + 1]])
    np.testing.assert_allclose(
        grad(ALGORITHM.critic.init(key=None))["w"], (error * [1, 2]).mean(-1), rtol=1e-6
    )


def test_actor_objective() -> None:
    """Actions 0.5 and 1: critics (1.5, 1.5) and (3, 3) at the point where both are equal.

    With p = 0.4 the second critic is larger, the first the minimum: (1 + p) obs.
    """
    loss = lambda p: ALGORITHM.actor_loss(p, initial(), BATCH, jax.random.key(0))
    p = jnp.float32(0.4)
    value, metrics = loss(p)
    np.testing.assert_allclose(value, 2 * (0.4 - 3) - 1.4 * 1.5, rtol=1e-6)
    np.testing.assert_allclose(metrics["entropy"], 2.6, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda p: loss(p)[0])(p), 2 - 1.5, rtol=1e-6)
    # beyond 0.5 the second, (2 - p) obs, is the minimum
    np.testing.assert_allclose(jax.grad(lambda p: loss(p)[0])(p + 0.2), 2 + 1.5, rtol=1e-6)


def test_temperature_objective() -> None:
    log_alpha = jnp.log(jnp.float32(2))
    loss, metrics = ALGORITHM.alpha_loss(log_alpha, jnp.float32(2.5))
    np.testing.assert_allclose(loss, np.log(2) * (2.5 - 1.5), rtol=1e-6)
    np.testing.assert_allclose(metrics["alpha"], 2, rtol=1e-6)
    grad = jax.grad(lambda a, e: ALGORITHM.alpha_loss(a, e)[0], argnums=(0, 1))
    assert grad(log_alpha, jnp.float32(1.0)) == (-0.5, 0.0), "no gradient to the entropy"


def test_update_moves_all_three_and_the_target_a_little() -> None:
    """Adam's first step is the rate against the sign of the gradient."""
    old = initial()
    new, metrics = jax.jit(ALGORITHM.update)(old, BATCH, jax.random.key(0))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5)
    # gradients of v_c: mean of error * action = ((-4 * .5) + (2.5, 5.5) * -.5) / 2 < 0
    close(new.critic.params["v"], [1 + 0.01, -1 + 0.01])
    # of w_c: mean of error * obs = ((-4 + 5) / 2, (-4 + 11) / 2) > 0
    close(new.critic.params["w"], [1 - 0.01, 2 - 0.01])
    for name in ("v", "w"):
        close(new.target[name], 0.995 * TARGET[name] + 0.005 * new.critic.params[name])
    # the entropy of 2.5 is above its target of 1.5, so the temperature falls
    close(new.alpha.params, np.log(2) - 0.01)
    # the improved critics are 0.99 + 1.01 p and 1.99 - 0.99 p, the first is less at p = 0.5
    close(metrics["actor_loss"], 2 * -2.5 - (0.99 + 1.01 * 0.5) * 1.5)
    close(new.actor.params, 0.5 - 0.01)  # its gradient is 2 - 1.5 * 1.01 > 0


def test_policy_holds_the_actor_only() -> None:
    state = initial()
    assert ALGORITHM.policy(state) is state.actor.params


def real() -> SAC:
    space = SPEC.observation_space
    actor = TanhNormalPolicy(space, 1, MLP((8,)))
    return SAC(actor=actor, critic=Ensemble(ActionValue(space, MLP((8,))), 3))


def test_initial_target_is_a_copy_that_can_be_donated() -> None:
    algorithm = real()
    state = jax.jit(lambda key: algorithm.init(key, SPEC))(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, state.target, state.critic.params)
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)
    assert all(x.shape[0] == 3 for x in jax.tree.leaves(state.target))
    assert state.alpha.params == 0.0


def test_acting_samples_or_takes_the_mode() -> None:
    algorithm = real()
    policy = jax.jit(lambda: algorithm.init(jax.random.key(0), SPEC).actor.params)()
    obs = jnp.ones((50, 1))
    act = lambda key, explore: algorithm.act(policy, obs, (), jax.random.key(key), explore)[0]
    assert len(np.unique(act(0, True))) == 50 and np.abs(act(0, True)).max() <= 1
    assert len(np.unique(act(0, False))) == 1
    np.testing.assert_array_equal(act(0, False), act(1, False))


def test_hyperparameters_are_data_and_can_be_swept() -> None:
    """One vmapped update over two values of tau equals two updates."""

    def target(tau: Any) -> Any:
        return ALGORITHM.replace(tau=tau).update(initial(), BATCH, jax.random.key(0))[0].target

    swept = jax.vmap(target)(jnp.array([0.005, 1.0]))
    np.testing.assert_allclose(swept["w"][0], target(0.005)["w"], rtol=1e-6)
    np.testing.assert_allclose(swept["w"][1], [0.99, 1.99], rtol=1e-6)


def test_source_is_short_and_mentions_no_other_layer() -> None:
    assert foreign_words(sac) == set()
    assert line_count(sac) <= 110
