"""TD3's equations with worked numbers, and DDPG as its special case."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from handmade import Function, steps

from parl.algorithms.td3 import TD3, TD3State
from parl.core.spec import Box, EnvSpec
from parl.models import MLP, Critic, Ensemble
from parl.models.control import DeterministicPolicy
from parl.ops.noise import OrnsteinUhlenbeck

SPEC = EnvSpec("test", Box((1,)), Box((1,), low=-1.0, high=1.0))
KEY = jax.random.key(0)

# action = p obs; q_c = w_c obs + v_c action, for two critics
ACTOR = Function(lambda p, obs: p * obs, jnp.float32(0.1))
CRITIC = Function(
    lambda p, obs, action: p["w"][:, None] * obs[:, 0] + p["v"][:, None] * action[:, 0],
    {"w": jnp.array([1.0, 2.0]), "v": jnp.array([1.0, -1.0])},
)
TARGET = {
    "actor": jnp.float32(0.2),
    "critic": {"w": jnp.array([3.0, 1.0]), "v": jnp.array([0.0, 2.0])},
}
BATCH = steps(
    obs=[[1.0], [2.0]],
    action=[[0.5], [-0.5]],
    next_obs=[[2.0], [4.0]],
    reward=[1.0, -1.0],
    discount=[1.0, 0.0],
)
PLAIN = TD3(
    actor=ACTOR,
    critic=CRITIC,
    gamma=0.5,
    tau=0.1,
    learning_rate=0.01,
    critic_learning_rate=0.02,
    smoothing=0.0,
)


def initial(algorithm: TD3 = PLAIN) -> TD3State:
    """With the targets' own weights."""
    return algorithm.init(KEY, SPEC).replace(target=TARGET)


def test_clipped_double_target() -> None:
    """Target actions 0.4 and 0.8. Target critics at (2, 0.4): 6 and 2.8, so 1 + 0.5 * 2.8 = 2.4."""
    q = np.array([[1.5, 1.5], [1.5, 4.5]])
    loss, (metrics, statistics) = PLAIN.critic_loss(
        CRITIC.params, initial(), BATCH, jax.random.key(0)
    )
    np.testing.assert_allclose(loss, 0.5 * ((q - [2.4, -1]) ** 2).mean(-1).sum(), rtol=1e-6)
    np.testing.assert_allclose(metrics["q"], q.mean(), rtol=1e-6)
    assert statistics == {}


def test_target_policy_smoothing() -> None:
    """Eq. 14 and 15: noise is clipped, then the action."""
    smooth = TD3(smoothing=0.2, smoothing_clip=0.1).smooth
    action = jnp.linspace(-1, 1, 2001)[:, None]
    noise = np.asarray(smooth(action, KEY) - action)
    assert np.abs(noise).max() <= 0.1 + 1e-6
    np.testing.assert_allclose((np.abs(noise) > 0.0999).mean(), 0.617, atol=0.05)  # beyond 0.5 std
    assert np.abs(smooth(action, KEY)).max() <= 1.0
    np.testing.assert_array_equal(PLAIN.smooth(action, KEY), action)
    # and it changes the target: critics are flat in the action or rise by 2 with it
    one = PLAIN.critic_loss(CRITIC.params, initial(), BATCH, KEY)[0]
    other = PLAIN.replace(smoothing=0.2).critic_loss(CRITIC.params, initial(), BATCH, KEY)[0]
    assert abs(one - other) > 1e-3


def test_policy_gradient_is_that_of_the_first_critic() -> None:
    """-mean (w_1 obs + v_1 p obs) = -(1 + p) 1.5."""
    loss = lambda p: PLAIN.actor_loss(p, initial(), BATCH, KEY)[0]
    np.testing.assert_allclose(loss(jnp.float32(0.1)), -1.1 * 1.5, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(loss)(jnp.float32(0.1)), -1.5, rtol=1e-6)


def test_policy_and_targets_move_every_other_update() -> None:
    update = jax.jit(PLAIN.update)
    first, info = update(initial(), BATCH, KEY)
    # gradients of v_1: mean of error * action = ((1.5 - 2.4) * .5 + (1.5 + 1) * -.5) / 2 < 0
    np.testing.assert_allclose(first.critic.params["v"], [1 + 0.02, -1 + 0.02], rtol=1e-5)
    assert first.actor.params == initial().actor.params and info["actor_loss"] == 0
    jax.tree.map(np.testing.assert_array_equal, first.target, TARGET)
    second, _ = update(first, BATCH, KEY)
    np.testing.assert_allclose(second.actor.params, 0.1 + 0.01, rtol=1e-5)
    np.testing.assert_allclose(second.target["actor"], 0.9 * 0.2 + 0.1 * 0.11, rtol=1e-5)
    expected = 0.9 * TARGET["critic"]["w"] + 0.1 * second.critic.params["w"]
    np.testing.assert_allclose(second.target["critic"]["w"], expected, rtol=1e-5)
    assert second.updates == 2


def test_ddpg_is_td3_without_its_three_changes() -> None:
    """Lillicrap et al. 2016, algorithm 1: one critic, one update of each, target actions as is."""
    critic = Function(
        lambda p, obs, action: (p["w"] * obs[:, 0] + p["v"] * action[:, 0])[None],
        {"w": jnp.float32(1), "v": jnp.float32(1)},
    )
    ddpg = PLAIN.replace(critic=critic, policy_period=1)
    target = {"actor": jnp.float32(0.2), "critic": {"w": jnp.float32(3), "v": jnp.float32(0)}}
    state = ddpg.init(KEY, SPEC).replace(target=target)
    loss, _ = ddpg.critic_loss(critic.params, state, BATCH, KEY)
    np.testing.assert_allclose(loss, 0.5 * ((1.5 - 4) ** 2 + (1.5 + 1) ** 2) / 2, rtol=1e-6)
    after, info = ddpg.update(state, BATCH, KEY)
    assert after.actor.params != state.actor.params and info["actor_loss"] != 0
    np.testing.assert_allclose(after.target["actor"], 0.9 * 0.2 + 0.1 * 0.11, rtol=1e-5)


def real(**changes: Any) -> TD3:
    space = SPEC.observation_space
    actor = DeterministicPolicy(space, 1, MLP((8,)))
    critic = Ensemble(Critic(space, MLP((8,))), 2)
    return TD3(actor=actor, critic=critic, **changes)


def test_exploration_adds_noise_within_the_bounds() -> None:
    algorithm = real(exploration=0.1)
    policy, obs = algorithm.init(KEY, SPEC).actor.params, jnp.ones((2000, 1))
    act = lambda explore, rule=algorithm: rule.act(policy, obs, (), KEY, explore)[0]
    greedy = act(False)
    assert len(np.unique(greedy)) == 1 and abs(greedy[0, 0]) < 0.6
    noise = act(True) - greedy
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 0.1], atol=0.01)
    loud = act(True, algorithm.replace(exploration=5.0))
    assert np.abs(loud).max() == 1.0


def test_noise_is_an_argument() -> None:
    """Ornstein-Uhlenbeck noise remembers: x' = 0.85 x + e."""
    algorithm = real(noise=OrnsteinUhlenbeck(1), exploration=0.01)
    policy, obs = algorithm.init(KEY, SPEC).actor.params, jnp.ones((3, 1))
    memory = algorithm.memory((3,))
    greedy = algorithm.act(policy, obs, memory, KEY, False)[0]
    one, memory, _ = algorithm.act(policy, obs, memory, jax.random.key(1), True)
    two, _, _ = algorithm.act(policy, obs, memory, jax.random.key(2), True)
    e1, e2 = (jax.random.normal(jax.random.key(i), (3, 1)) for i in (1, 2))
    np.testing.assert_allclose(one - greedy, 0.01 * e1, atol=1e-6)
    np.testing.assert_allclose(two - greedy, 0.01 * (0.85 * e1 + e2), atol=1e-6)


def test_initial_targets_can_be_donated() -> None:
    state = jax.jit(lambda key: real().init(key, SPEC))(KEY)
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)
    jax.tree.map(np.testing.assert_array_equal, state.target["actor"], state.actor.params)
