"""SAC's equations with worked numbers."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from handmade import Function, steps

from parl.algorithms.sac import SAC, SACState
from parl.core.spec import Box, EnvSpec
from parl.models import MLP, Critic, Ensemble, TanhNormalPolicy
from parl.ops.noise import Repeated

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
ALGORITHM = SAC(
    actor=ACTOR,
    critic=CRITIC,
    gamma=0.5,
    learning_rate=0.01,
    critic_learning_rate=0.02,
    initial_temperature=2.0,
    target_entropy=1.5,
)
KEY = jax.random.key(0)


def critic_loss(params: Any, batch: Any = None) -> Any:
    """(loss, metrics) on the batch."""
    batch = BATCH if batch is None else batch
    loss, (metrics, statistics) = ALGORITHM.critic_loss(params, initial(), batch, KEY, KEY)
    assert statistics == {}
    return loss, metrics


def initial() -> SACState:
    """With the target's own weights and a temperature of 2."""
    return ALGORITHM.init(jax.random.key(0), SPEC).replace(target=TARGET)


def test_soft_bellman_residual() -> None:
    """Next actions 1 and 2 of log-probability -2.5. Target critics at (2, 1): 6 and 4.

    So next_v = min(6, 4) + 2 * 2.5 = 9 and the target 1 + 0.5 * 9 = 5.5; the other ended: -1.
    """
    q = np.array([[1 + 0.5, 2 - 0.5], [2 - 0.5, 4 + 0.5]])
    expected = 0.5 * ((q - [5.5, -1]) ** 2).mean(-1).sum()
    loss, metrics = critic_loss(CRITIC.params)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["q"], q.mean(), rtol=1e-6)
    errors = np.sqrt(((q - [5.5, -1]) ** 2).mean(0))
    np.testing.assert_allclose(metrics["td_error"], errors, rtol=1e-6)


def test_targets_without_entropy() -> None:
    """The same with next_v = 4: the target is 1 + 0.5 * 4 = 3."""
    q = np.array([[1 + 0.5, 2 - 0.5], [2 - 0.5, 4 + 0.5]])
    plain = ALGORITHM.replace(entropy_backup=False)
    loss, _ = plain.critic_loss(CRITIC.params, initial(), BATCH, KEY, KEY)
    np.testing.assert_allclose(loss, 0.5 * ((q - [3, -1]) ** 2).mean(-1).sum(), rtol=1e-6)


def test_samples_can_be_weighed() -> None:
    """Errors -4, -4 of the first sample and 2.5, 5.5 of the second, weights 1 and 0.5."""
    batch = BATCH._replace(extras={"weight": np.array([1.0, 0.5], np.float32)})
    loss, metrics = critic_loss(CRITIC.params, batch)
    expected = 0.5 * ((16 + 0.5 * 6.25) / 2 + (16 + 0.5 * 30.25) / 2)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["td_error"], [4, np.sqrt((6.25 + 30.25) / 2)], rtol=1e-6)


def test_critic_targets_carry_no_gradient() -> None:
    """d loss / d w_c = mean over the batch of (q_c - target) obs."""
    grad = jax.grad(lambda p: critic_loss(p)[0])
    error = np.array([[1.5 - 5.5, 1.5 + 1], [1.5 - 5.5, 4.5 + 1]])
    np.testing.assert_allclose(grad(CRITIC.params)["w"], (error * [1, 2]).mean(-1), rtol=1e-6)


def test_actor_objective() -> None:
    """Actions 0.5 and 1: critics (1.5, 1.5) and (3, 3) at the point where both are equal.

    With p = 0.4 the second critic is larger, the first the minimum: (1 + p) obs.
    """
    loss = lambda p: ALGORITHM.actor_loss(p, initial(), BATCH, KEY, KEY)
    p = jnp.float32(0.4)
    value, (metrics, _) = loss(p)
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
    close(new.critic.params["v"], [1 + 0.02, -1 + 0.02])
    # of w_c: mean of error * obs = ((-4 + 5) / 2, (-4 + 11) / 2) > 0
    close(new.critic.params["w"], [1 - 0.02, 2 - 0.02])
    for name in ("v", "w"):
        close(new.target[name], 0.995 * TARGET[name] + 0.005 * new.critic.params[name])
    # the entropy of 2.5 is above its target of 1.5, so the temperature falls
    close(new.alpha.params, np.log(2) - 0.02)
    # the improved critics are 0.98 + 1.02 p and 1.98 - 0.98 p, the first is less at p = 0.5
    close(metrics["actor_loss"], 2 * -2.5 - (0.98 + 1.02 * 0.5) * 1.5)
    close(new.actor.params, 0.5 - 0.01)  # its gradient is 2 - 1.5 * 1.02 > 0
    assert new.updates == 1


def test_a_delayed_policy_moves_every_other_update() -> None:
    """The critics and their target move at each."""
    delayed = ALGORITHM.replace(policy_period=2)
    update = jax.jit(delayed.update)
    first, info = update(initial(), BATCH, KEY)
    assert first.actor.params == 0.5 and first.alpha.params == initial().alpha.params
    assert info["actor_loss"] == info["alpha"] == 0
    second, info = update(first, BATCH, KEY)
    assert second.actor.params != 0.5 and second.alpha.params != initial().alpha.params
    before = second.replace(alpha=first.alpha)
    loss = ALGORITHM.actor_loss(jnp.float32(0.5), before, BATCH, KEY, KEY)[0]
    np.testing.assert_allclose(info["actor_loss"], 2 * loss, rtol=1e-5)
    for a, b in ((initial(), first), (first, second)):
        assert (a.critic.params["w"] != b.critic.params["w"]).all()
        assert (a.target["w"] != b.target["w"]).all()


def test_policy_holds_the_actor_only() -> None:
    state = initial()
    assert ALGORITHM.policy(state) is state.actor.params


def real() -> SAC:
    space = SPEC.observation_space
    actor = TanhNormalPolicy(space, 1, MLP((8,)))
    return SAC(actor=actor, critic=Ensemble(Critic(space, MLP((8,))), 3))


def test_initial_target_is_a_copy_that_can_be_donated() -> None:
    algorithm = real()
    state = jax.jit(lambda key: algorithm.init(key, SPEC))(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, state.target, state.critic.params)
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)
    assert all(x.shape[0] == 3 for x in jax.tree.leaves(state.target))
    assert state.alpha.params == 0.0 and state.updates == 0


def test_acting_samples_or_takes_the_mode() -> None:
    algorithm = real()
    policy = jax.jit(lambda: algorithm.init(jax.random.key(0), SPEC).actor.params)()
    obs = jnp.ones((50, 1))
    act = lambda key, explore: algorithm.act(policy, obs, (), jax.random.key(key), explore)[0]
    assert len(np.unique(act(0, True))) == 50 and np.abs(act(0, True)).max() <= 1
    assert len(np.unique(act(0, False))) == 1
    np.testing.assert_array_equal(act(0, False), act(1, False))


def test_noise_is_an_argument() -> None:
    """Repeated noise: the first actions of an episode come of one draw."""
    algorithm = real().replace(noise=Repeated(1, exponent=0.0, longest=4))
    policy, obs = algorithm.init(KEY, SPEC).actor.params, jnp.ones((5, 1))
    memory, actions = algorithm.memory((5,)), []
    act = jax.jit(partial(algorithm.act, explore=True))
    for i in range(12):
        action, memory, _ = act(policy, obs, memory, jax.random.key(i))
        actions.append(np.asarray(action)[:, 0])
    changes = (np.diff(actions, axis=0) != 0).sum()
    assert 11 * 5 / 4 <= changes < 11 * 5, "a draw lasts 1 to 4 steps"
    greedy, after, _ = algorithm.act(policy, obs, memory, KEY, False)
    jax.tree.map(np.testing.assert_array_equal, after, memory)
    assert len(np.unique(greedy)) == 1


def test_hyperparameters_are_data_and_can_be_swept() -> None:
    """One vmapped update over two values of tau equals two updates."""

    def target(tau: Any) -> Any:
        return ALGORITHM.replace(tau=tau).update(initial(), BATCH, jax.random.key(0))[0].target

    swept = jax.jit(jax.vmap(target))(jnp.array([0.005, 1.0]))
    np.testing.assert_allclose(swept["w"][0], jax.jit(target)(0.005)["w"], rtol=1e-6)
    np.testing.assert_allclose(swept["w"][1], [0.98, 1.98], rtol=1e-6)
