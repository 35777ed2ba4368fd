"""R2D2's equations with worked numbers; the network sums up what it sees of an episode."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from handmade import Adding, steps

from parl import ops
from parl.agents.execution.protocol import places
from parl.algorithms.r2d2 import R2D2
from parl.algorithms.shared import windows
from parl.algorithms.shared.q_learning import QPolicy
from parl.core.types import Rollout, Window

KEY = jax.random.key(0)
Q = Adding(lambda p, x: p * jnp.stack([x, -x], -1), jnp.float32(1))  # [sum so far, minus that]


def window(first: Any = (0, 0, 0, 0, 0), last: Any = (0, 0, 0, 0, 0), **changes: Any) -> Window:
    """Two steps of burn-in that see 1 and 2, then three that see 3, 4 and 5; memory was 10."""
    seen, after = np.array([[1.0, 2, 3, 4, 5]]), np.array([[2.0, 3, 4, 5, 6]])
    whole = steps(
        obs=seen[..., None],
        next_obs=after[..., None],
        reward=np.array([[0.0, 0, 1, 2, 3]]),
        first=np.array([first], bool),
        last=np.array([last], bool),
        action=np.zeros((1, 5), np.int32),
    )
    part = lambda where: jax.tree.map(lambda x: jnp.asarray(x[:, where]), whole)
    made = Window(part(slice(2)), part(slice(2, 5)), jnp.array([10.0]), jnp.ones((1, 3), bool), {})
    return made._replace(**changes)


@compiled
def loss(batch: Window, **settings: Any) -> Any:
    algorithm = R2D2(q=Q, gamma=0.5, huber_delta=1e9, **settings)
    return algorithm.loss(jnp.float32(1), jnp.float32(2), batch, KEY)


def test_values_go_on_from_the_memory_that_acting_had() -> None:
    """Sums 16, 20, 25 and 31; the target network's are twice those. One-step double targets."""
    errors = np.array([16 - (1 + 0.5 * 40), 20 - (2 + 0.5 * 50), 25 - (3 + 0.5 * 62)])
    found, metrics = loss(window(), rescale=False, horizon=1)
    np.testing.assert_allclose(found, (0.5 * errors**2).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["q"], (16 + 20 + 25) / 3, rtol=1e-6)
    size = np.abs(errors)
    np.testing.assert_allclose(metrics["td_error"], [0.9 * size.max() + 0.1 * size.mean()])


def test_returns_of_several_steps_end_with_the_window() -> None:
    """Two steps: 1 + 0.5 * 2 + 0.25 * 50, 2 + 0.5 * 3 + 0.25 * 62, and 3 + 0.5 * 62."""
    errors = np.array([16 - (2 + 0.25 * 50), 20 - (3.5 + 0.25 * 62), 25 - (3 + 0.5 * 62)])
    found, _ = loss(window(), rescale=False, horizon=2)
    np.testing.assert_allclose(found, (0.5 * errors**2).mean(), rtol=1e-6)


def test_memory_is_reset_where_an_episode_opens() -> None:
    """Cut by time after the first step to learn from: 16 (next 20), then 4, 9 and next 15."""
    errors = np.array([16 - (1 + 0.5 * 40), 4 - (2 + 0.5 * 18), 9 - (3 + 0.5 * 30)])
    batch = window(first=(0, 0, 0, 1, 0), last=(0, 0, 1, 0, 0))
    found, _ = loss(batch, rescale=False, horizon=1)
    np.testing.assert_allclose(found, (0.5 * errors**2).mean(), rtol=1e-6)
    early = window(first=(0, 1, 0, 0, 0), last=(1, 0, 0, 0, 0))  # in the burn-in: 2 and 3 are seen
    found = loss(early, rescale=False, horizon=1)[1]["q"]
    np.testing.assert_allclose(found, (5 + 9 + 14) / 3, rtol=1e-6)


def test_a_terminated_episode_is_worth_nothing_more() -> None:
    batch = window(first=(0, 0, 0, 1, 0), last=(0, 0, 1, 0, 0))
    over = batch.steps._replace(discount=jnp.array([[0.0, 1, 1]]))
    errors = np.array([16 - 1, 4 - (2 + 0.5 * 18), 9 - (3 + 0.5 * 30)])
    found, _ = loss(batch._replace(steps=over), rescale=False, horizon=1)
    np.testing.assert_allclose(found, (0.5 * errors**2).mean(), rtol=1e-6)


def test_what_is_not_there_counts_nothing() -> None:
    """The last step is not of this window: the second bootstraps from what it led to."""
    errors = np.array([16 - (1 + 0.5 * 40), 20 - (2 + 0.5 * 50)])
    gone = window(there=jnp.array([[True, True, False]]))
    found, metrics = loss(gone, rescale=False, horizon=1)
    np.testing.assert_allclose(found, (0.5 * errors**2).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["td_error"], [0.9 * 7 + 0.1 * 6], rtol=1e-6)
    nothing, metrics = loss(window(there=jnp.zeros((1, 3), bool)), rescale=False)
    assert nothing == 0 and metrics["td_error"] == 0


def test_windows_have_weights() -> None:
    half = window(extras={"weight": jnp.array([0.5])})
    np.testing.assert_allclose(2 * loss(half)[0], loss(window())[0], rtol=1e-6)


def test_burn_in_has_no_gradient() -> None:
    """Outputs p times 16, 20 and 25: the memory before them is a constant."""
    made = windows.in_time(window())
    scaled = Adding(lambda p, x: x * p)
    total = lambda p: windows.outputs(scaled, p, made, jnp.array([10.0]))[0].sum()
    np.testing.assert_allclose(jax.grad(total)(jnp.float32(1)), 16 + 20 + 25)
    memory = lambda p: windows.memory_before(Q, p, made, jnp.array([10.0])).sum()
    assert memory(jnp.float32(1)) == 13 and jax.grad(memory)(jnp.float32(1)) == 0


# -- the scale of values --------------------------------------------------------------------------


def test_rescaled_values() -> None:
    """h(3) = 1 + 0.003, h(-8) = -2 - 0.008; the inverse undoes it for large and small numbers."""
    np.testing.assert_allclose(ops.rescaled(jnp.array([3.0, -8.0])), [1.003, -2.008], rtol=1e-6)
    x = jnp.array([0.0, 1e-4, -0.3, 7.0, 1e4, -1e6])
    np.testing.assert_allclose(ops.unscaled(ops.rescaled(x)), x, rtol=1e-4, atol=1e-6)


def test_targets_are_returns_on_the_scale_of_the_values() -> None:
    """The network's 2 * 20 stands for h^-1(40)."""
    _, metrics = loss(window(there=jnp.array([[True, False, False]])), horizon=1)
    target = ops.rescaled(1 + 0.5 * ops.unscaled(jnp.float32(40)))
    np.testing.assert_allclose(metrics["td_error"], [abs(16 - target)], rtol=1e-5)


# -- acting ---------------------------------------------------------------------------------------


def test_environments_explore_less_and_less() -> None:
    """0.4^(1 + 7 i / 7) of eight actors, as in Ape-X; a single one has epsilon itself."""
    algorithm, policy = R2D2(q=Q, epsilon_spread=7.0), QPolicy(jnp.float32(1), jnp.float32(0.4))
    epsilon = lambda *where: algorithm.exploring(policy, jnp.asarray(places(*where)))[1].epsilon
    np.testing.assert_allclose(epsilon(8), 0.4 ** np.arange(1.0, 9.0), rtol=1e-5)
    np.testing.assert_allclose(epsilon(1), [0.4], rtol=1e-6)
    np.testing.assert_allclose(epsilon(2, 6, 8), 0.4 ** np.array([7.0, 8.0]), rtol=1e-5)
    alike = R2D2(q=Q).exploring(QPolicy(1, jnp.float32(0.4)), jnp.asarray(places(8)))[1]
    np.testing.assert_array_equal(alike.epsilon, np.full(8, 0.4, np.float32))


def test_acting_tells_its_memory_before_the_step() -> None:
    algorithm = R2D2(q=Q, epsilon_spread=30.0)
    policy, obs = QPolicy(jnp.float32(1), jnp.float32(0.5)), np.full((300, 1), 2.0)
    algorithm, apart = algorithm.exploring(policy, jnp.asarray(places(300)))
    action, after, extras = algorithm.act(apart, obs, jnp.full(300, 5.0), KEY, explore=True)
    assert np.all(extras["memory"] == 5) and np.all(after == 7)
    share = np.asarray(action == 1)
    assert share[:5].any() and not share[150:].any(), "the last ones do not explore"
    assert algorithm.act(policy, obs, jnp.zeros(300), KEY, explore=False)[2] == {}


@pytest.mark.parametrize("told", [True, False])
def test_steps_of_a_data_set_open_with_a_fresh_memory(told: bool) -> None:
    extras = {"memory": np.full((3, 2), 4.0)} if told else {}
    made = steps(obs=np.ones((3, 2, 1)), next_obs=np.ones((3, 2, 1)), reward=np.ones((3, 2)))
    items = R2D2(q=Q).items(Rollout(made._replace(extras=extras), ()))
    np.testing.assert_array_equal(items.extras["memory"], np.full(6, 4.0 if told else 0.0))
