"""DQN's equations with worked numbers; values are a table [S, A] that observations index."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import Function, steps

from parl.algorithms.dqn import DQN, DQNState
from parl.algorithms.shared.q_learning import QPolicy
from parl.core.spec import Discrete, EnvSpec
from parl.core.types import Rollout
from parl.ops.value_distributions import Quantiles

SPEC = EnvSpec("test", Discrete(3), Discrete(2))
KEY = jax.random.key(0)


def look_up(table: jax.Array, obs: Any) -> jax.Array:
    return table[obs["at"] if isinstance(obs, dict) else obs]


# in state 1 the network prefers action 1, the target network action 0
NET = jnp.array([[1.0, 2.0], [3.0, 4.0], [0.5, 0.0]])
TARGET = jnp.array([[0.0, 0.0], [10.0, 5.0], [6.0, 7.0]])
Q = Function(look_up, NET)
BATCH = steps(
    obs=[0, 0, 2],
    action=[0, 1, 0],
    next_obs=[1, 1, 2],
    reward=[0.5, -1.0, 0.25],
    discount=[1.0, 0.0, 1.0],
)


def make(**settings: Any) -> DQN:
    return DQN(q=Q, gamma=0.1, **settings)


def huber(error: float) -> float:
    return 0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5


def test_single_and_double_targets() -> None:
    # state 1: target max 10, at the network's choice 5; state 2: max 7, at the choice 6
    # current values 1, 2 and 0.5; the second terminated
    double = [1 - (0.5 + 0.1 * 5), 2 + 1, 0.5 - (0.25 + 0.1 * 6)]
    single = [1 - (0.5 + 0.1 * 10), 2 + 1, 0.5 - (0.25 + 0.1 * 7)]
    for errors, algorithm in ((double, make()), (single, make(double=False))):
        loss, metrics = algorithm.loss(NET, TARGET, BATCH, KEY)
        np.testing.assert_allclose(loss, np.mean([huber(e) for e in errors]), rtol=1e-6)
        np.testing.assert_allclose(metrics["q"], 3.5 / 3, rtol=1e-6)
        np.testing.assert_allclose(metrics["td_error"], np.abs(errors), rtol=1e-5)


def test_samples_can_be_weighed() -> None:
    """Errors 0, 3 and -0.35, as above."""
    batch = BATCH._replace(extras={"weight": np.array([1.0, 0.5, 0.25], np.float32)})
    loss, metrics = make().loss(NET, TARGET, batch, KEY)
    np.testing.assert_allclose(loss, (0.5 * huber(3) + 0.25 * huber(0.35)) / 3, rtol=1e-5)
    np.testing.assert_allclose(metrics["td_error"], [0, 3, 0.35], rtol=1e-5, atol=1e-7)


def test_gradient_is_the_clipped_error_of_the_action_taken() -> None:
    grad = jax.grad(lambda p: make().loss(p, TARGET, BATCH, KEY)[0])(NET)
    expected = np.zeros((3, 2))
    expected[0, 1] = 1 / 3  # error 3, clipped
    expected[2, 0] = -0.35 / 3
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("double", [True, False])
def test_illegal_actions_are_not_bootstrapped_from(double: bool) -> None:
    """Only action 0 is legal in state 1 and action 1 in state 2: next values 10 and 7."""
    legal = np.array([[True, False], [True, False], [False, True]])
    masked = BATCH._replace(
        obs={"at": BATCH.obs, "legal": np.ones((3, 2), bool)},
        next_obs={"at": BATCH.next_obs, "legal": legal},
    )
    loss, _ = make(double=double).loss(NET, TARGET, masked, KEY)
    errors = [1 - (0.5 + 1.0), 2 + 1, 0.5 - (0.25 + 0.7)]
    np.testing.assert_allclose(loss, np.mean([huber(e) for e in errors]), rtol=1e-6)


def test_the_value_may_be_a_distribution() -> None:
    """Two quantiles of each value, at 1/4 and 3/4; state 1's best by mean are actions 0 and 1.

    Its atoms by the target network are 8 and 12, and 2 and 8 at the network's own choice. The first
    sample's value 1 has the atoms 0 and 2, the terminated one's is 2 with 1 and 3.
    """
    spread = jnp.array([[-1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]])[:, None]  # by state
    net = NET[..., None] + spread
    target = TARGET[..., None] + spread * jnp.array([2.0, 3.0])[:, None]
    q = Function(lambda table, obs: Quantiles(table[obs]), net)
    for double, atoms in ((True, (2.0, 8.0)), (False, (8.0, 12.0))):
        algorithm = DQN(q=q, gamma=0.5, double=double)
        batch = jax.tree.map(lambda x: x[:2], BATCH)
        loss, metrics = algorithm.loss(net, target, batch, KEY)
        first = Quantiles(jnp.array([0.0, 2.0])).loss(0.5 + 0.5 * jnp.array(atoms))
        second = Quantiles(jnp.array([1.0, 3.0])).loss(jnp.array([-1.0, -1.0]))
        np.testing.assert_allclose(loss, (first + second) / 2, rtol=1e-6)
        np.testing.assert_allclose(metrics["q"], (1 + 2) / 2, rtol=1e-6)
        errors = np.sqrt(2 * np.array([first, second]))
        np.testing.assert_allclose(metrics["td_error"], errors, rtol=1e-6)
    policy = QPolicy(net, jnp.float32(0))
    action = algorithm.act(policy, jnp.arange(3), (), KEY, explore=False)[0]
    np.testing.assert_array_equal(action, NET.argmax(-1))


def test_acting_is_epsilon_greedy_among_legal_actions() -> None:
    algorithm, obs = make(), jnp.ones(4000, jnp.int32)

    def act(epsilon: float, obs: Any, explore: bool) -> np.ndarray:
        policy = QPolicy(NET, jnp.float32(epsilon))
        action, memory, extras = algorithm.act(policy, obs, (), jax.random.key(0), explore)
        assert memory == () and extras == {} and action.dtype == jnp.int32
        return np.asarray(action)

    assert (act(1.0, obs, explore=False) == 1).all()
    assert (act(0.0, obs, explore=True) == 1).all()
    np.testing.assert_allclose(np.mean(act(0.5, obs, explore=True) == 0), 0.25, atol=0.03)
    only = {"at": obs, "legal": jnp.tile(jnp.array([True, False]), (4000, 1))}
    assert (act(0.5, only, explore=True) == 0).all()
    assert (act(0.0, only, explore=False) == 0).all()


def test_epsilon_falls_linearly_with_the_steps_observed() -> None:
    algorithm = make(epsilon_start=1.0, epsilon_end=0.1, epsilon_steps=100)
    state = algorithm.init(jax.random.key(0), SPEC)
    rollout = Rollout(steps(obs=np.zeros((5, 6), int), next_obs=None, reward=np.zeros((5, 6))), ())
    rates = []
    for _ in range(5):
        rates.append(float(algorithm.policy(state).epsilon))
        state = algorithm.observe(state, rollout)
    assert state.env_steps == 150
    np.testing.assert_allclose(rates, [1.0, 0.73, 0.46, 0.19, 0.1], rtol=1e-5)


def test_target_is_a_periodic_copy() -> None:
    algorithm = make(target_period=3, learning_rate=0.01)
    update, state = jax.jit(algorithm.update), algorithm.init(jax.random.key(0), SPEC)
    states: list[DQNState] = [state]
    for _ in range(7):
        states.append(update(states[-1], BATCH, jax.random.key(0))[0])
    for i, state in enumerate(states):
        assert state.updates == i
        np.testing.assert_array_equal(state.target, states[i // 3 * 3].net.params)
    assert (states[1].net.params != states[0].net.params).any()
    assert states[0].target.unsafe_buffer_pointer() != NET.unsafe_buffer_pointer()


def test_a_slow_target_moves_by_tau() -> None:
    algorithm = make(target_period=2, tau=0.25, learning_rate=0.01)
    update, state = jax.jit(algorithm.update), algorithm.init(jax.random.key(0), SPEC)
    first = update(state, BATCH, jax.random.key(0))[0]
    np.testing.assert_array_equal(first.target, state.target)
    second = update(first, BATCH, jax.random.key(0))[0]
    expected = 0.25 * np.asarray(second.net.params) + 0.75 * np.asarray(state.target)
    np.testing.assert_allclose(second.target, expected, rtol=1e-6)


def test_update_takes_adams_step_on_the_clipped_gradient() -> None:
    algorithm = make(learning_rate=0.01, max_grad_norm=0.1)
    state = algorithm.init(jax.random.key(0), SPEC).replace(target=TARGET)
    state, _ = jax.jit(algorithm.update)(state, BATCH, jax.random.key(0))
    moved = np.asarray(state.net.params - NET)
    np.testing.assert_allclose(moved, [[0, -0.01], [0, 0], [0.01, 0]], rtol=1e-4, atol=1e-8)
    mu = np.asarray(state.net.opt[1][0].mu)
    np.testing.assert_allclose(np.linalg.norm(mu), 0.1 * 0.1, rtol=1e-5)
