"""n-step windows and prioritised sampling, with worked numbers."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.agents.learner import LearnerState, OffPolicy, seed_axes, with_rows, without_rows
from parl.agents.replay.ring import NumpyReplay, Replay, ReplayState
from parl.agents.replay.sampling import NStep, Prioritized, out_of_order
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.types import Rollout, Step

KEY = jax.random.key(0)
BOTH = pytest.mark.parametrize("kind", [Replay, NumpyReplay])

pytestmark = pytest.mark.usefixtures("compiled_replay")


def steps(start: int, count: int, last: Any = (), terminal: Any = (), envs: int = 2) -> Step:
    """`count` steps of two environments, time-major: rewards t + 10 e, observations likewise."""
    t, e = np.meshgrid(np.arange(start, start + count), np.arange(envs), indexing="ij")
    t, e = t.ravel(), e.ravel()
    number = np.asarray(t + 10 * e, np.float32)
    ended = np.array([(a, b) in set(last) for a, b in zip(t, e, strict=True)])
    opened = np.array([(a - 1, b) in set(last) or a == 0 for a, b in zip(t, e, strict=True)])
    over = np.array([(a, b) in set(terminal) for a, b in zip(t, e, strict=True)])
    obs, discount = number[:, None], np.asarray(~over, np.float32)
    return Step(obs, number[:, None], number, discount, obs + 0.5, opened, ended, {})


def filled(replay: Any, adds: int, last: Any = (), terminal: Any = ()) -> ReplayState:
    """Adds of three steps each of two environments."""
    state = replay.init(steps(0, 3), stride=2)
    for i in range(adds):
        state = replay.add(state, steps(3 * i, 3, last, terminal))
    return state


def row(t: int, e: int) -> Any:
    """Where a step lies in a ring that has not wrapped."""
    return np.array([2 * t + e])


# -- n steps --------------------------------------------------------------------------------------


@BOTH
def test_window_across_adds(kind: Any) -> None:
    """Step 2 of environment 1: rewards 12, 13, 14 with gamma 0.5; it goes on after step 4."""
    replay = NStep(kind(100), n=3, gamma=0.5)
    batch = replay.take(filled(replay, 2), row(2, 1))
    np.testing.assert_allclose(batch.reward, [12 + 0.5 * 13 + 0.25 * 14])
    np.testing.assert_allclose(batch.discount, [0.25])  # times gamma: 0.125 for three steps
    np.testing.assert_allclose(batch.next_obs, [[14.5]])
    np.testing.assert_allclose(batch.obs, [[12.0]])
    np.testing.assert_allclose(batch.action, [[12.0]])
    assert not batch.last[0]


@BOTH
def test_window_without_a_look_ahead(kind: Any) -> None:
    """With gamma 0 the later steps count nothing, and nothing is divided by it."""
    replay = NStep(kind(100), n=3, gamma=0.0)
    batch = replay.take(filled(replay, 2), row(2, 1))
    np.testing.assert_array_equal(batch.reward, [12.0])
    np.testing.assert_array_equal(batch.discount, [0.0])


@BOTH
def test_window_ends_with_its_episode(kind: Any) -> None:
    """Environment 0 is cut off by time after step 3, environment 1 terminates there."""
    replay = NStep(kind(100), n=3, gamma=0.5)
    state = filled(replay, 3, last=[(3, 0), (3, 1)], terminal=[(3, 1)])
    batch = replay.take(state, np.concatenate([row(2, 0), row(2, 1), row(3, 0)]))
    np.testing.assert_allclose(batch.reward, [2 + 0.5 * 3, 12 + 0.5 * 13, 3])
    np.testing.assert_allclose(batch.discount, [0.5, 0.0, 1.0])
    np.testing.assert_allclose(batch.next_obs[:, 0], [3.5, 13.5, 3.5])
    np.testing.assert_array_equal(batch.last, [True, True, True])


@BOTH
def test_window_ends_at_the_newest_step(kind: Any) -> None:
    """Step 4 of 0 .. 5: two rewards only; the newest: one."""
    replay = NStep(kind(100), n=3, gamma=0.5)
    state = filled(replay, 2)
    batch = replay.take(state, np.concatenate([row(4, 0), row(5, 1)]))
    np.testing.assert_allclose(batch.reward, [4 + 0.5 * 5, 15])
    np.testing.assert_allclose(batch.discount, [0.5, 1.0])
    np.testing.assert_allclose(batch.next_obs[:, 0], [5.5, 15.5])


@BOTH
def test_window_goes_round_the_ring_but_not_into_the_oldest(kind: Any) -> None:
    """A capacity of 12 rows holds steps 3 .. 8; 6 .. 8 lie in the first half."""
    replay = NStep(kind(12), n=3, gamma=0.5)
    state = filled(replay, 3)
    rows = np.array([10, 2, 4])  # steps 5, 7 and 8 of environment 0
    batch = replay.take(state, rows)
    np.testing.assert_allclose(batch.obs[:, 0], [5, 7, 8])
    np.testing.assert_allclose(batch.reward, [5 + 0.5 * 6 + 0.25 * 7, 7 + 0.5 * 8, 8])
    np.testing.assert_allclose(batch.next_obs[:, 0], [7.5, 8.5, 8.5])


def test_an_episode_that_was_started_anew_is_not_followed() -> None:
    """`first` without a `last` before it, as after a resume that could not restore a simulator."""
    replay = NStep(Replay(100), n=3, gamma=0.5)
    state = replay.init(steps(0, 3), stride=2)
    state = replay.add(state, steps(0, 3))
    state = replay.add(state, steps(3, 3)._replace(first=np.array([True, True] + [False] * 4)))
    np.testing.assert_allclose(replay.take(state, row(1, 0)).reward, [1 + 0.5 * 2])


def test_adds_of_any_environments_are_not_joined() -> None:
    """As in asynchronous runs: steps 0 .. 2 and 3 .. 5 are of one add each."""
    replay = out_of_order(NStep(Replay(100), n=3, gamma=0.5))
    assert replay.inner == Replay(100, in_order=False)
    batch = replay.take(filled(replay, 2), np.concatenate([row(0, 1), row(1, 1), row(2, 1)]))
    np.testing.assert_allclose(batch.reward, [10 + 0.5 * 11 + 0.25 * 12, 11 + 0.5 * 12, 12])
    np.testing.assert_allclose(batch.next_obs[:, 0], [12.5, 12.5, 12.5])


def test_one_step_is_the_step() -> None:
    replay = NStep(Replay(100), n=1, gamma=0.5)
    state, index = filled(replay, 2), np.arange(12)
    ours, plain = replay.take(state, index), replay.inner.take(state, index)
    jax.tree.map(np.testing.assert_allclose, ours, plain)


def test_samples_have_any_shape_and_windows_of_their_own() -> None:
    """Against a loop over the stored steps."""
    replay = NStep(Replay(100), n=2, gamma=0.9)
    last = [(1, 0), (4, 1)]
    state = filled(replay, 3, last=last)
    batch = jax.jit(replay.sample, static_argnums=2)(state, KEY, (4, 25))
    assert batch.obs.shape == (4, 25, 1) and batch.reward.shape == (4, 25)
    for number, reward in zip(np.ravel(batch.obs), np.ravel(batch.reward), strict=True):
        t, e = int(number) % 10, int(number) // 10
        alone = (t, e) in last or t == 8
        np.testing.assert_allclose(reward, number + (0 if alone else 0.9 * (number + 1)), rtol=1e-5)


# -- priorities -----------------------------------------------------------------------------------


@BOTH
def test_new_items_come_as_the_largest_so_far(kind: Any) -> None:
    replay = Prioritized(kind(100), alpha=0.5, epsilon=0.0)
    state = filled(replay, 1)
    np.testing.assert_array_equal(state.priorities[np.arange(8)], [1] * 6 + [0] * 2)
    state = replay.learned(state, np.array([2, 4]), jnp.array([16.0, 0.25]))
    np.testing.assert_allclose(state.priorities[np.arange(6)], [1, 1, 4, 1, 0.5, 1])
    state = replay.add(state, steps(3, 3))
    np.testing.assert_allclose(state.priorities[np.arange(14)][5:], [1, *[4] * 6, 0, 0])


@BOTH
def test_importance_weights(kind: Any) -> None:
    """Priorities 1, 1, 4, 1, 0.5, 1 of a total of 8.5: P N = 6 p / 8.5, to the power -0.5."""
    replay = Prioritized(kind(100), alpha=0.5, beta=0.5, epsilon=0.0)
    state = replay.learned(filled(replay, 1), np.array([2, 4]), jnp.array([16.0, 0.25]))
    batch = replay.take(state, np.array([[0, 2, 4], [0, 0, 2]]))
    p = np.array([[1, 4, 0.5], [1, 1, 4]])
    weight = (6 * p / 8.5) ** -0.5
    expected = weight / weight.max(1, keepdims=True)
    np.testing.assert_allclose(batch.extras["weight"], expected, rtol=1e-5)
    np.testing.assert_allclose(batch.reward, [[0, 1, 2], [0, 0, 1]])


@BOTH
def test_sampling_follows_the_errors(kind: Any) -> None:
    replay = Prioritized(kind(100), alpha=1.0, epsilon=0.0)
    state = replay.learned(filled(replay, 1), np.arange(6), jnp.array([1.0, 2, 3, 4, 0, 0]))
    drawn = np.asarray(replay.index(state, KEY, (4000,)))
    np.testing.assert_allclose(
        np.bincount(drawn, minlength=6) / 4000, [0.1, 0.2, 0.3, 0.4, 0, 0], atol=0.03
    )


def test_windows_may_be_prioritised() -> None:
    replay = Prioritized(NStep(Replay(100), n=2, gamma=0.5))
    batch = replay.take(filled(replay, 1), row(0, 1))
    np.testing.assert_allclose(batch.reward, [10 + 0.5 * 11])
    np.testing.assert_allclose(batch.extras["weight"], [1.0])


def test_an_algorithm_without_errors_is_refused() -> None:
    replay = Prioritized(Replay(100))
    with pytest.raises(ConfigError, match="reports no td_error to prioritise by; set priority 0"):
        replay.learned(filled(replay, 1), np.arange(2), None)


@BOTH
@pytest.mark.parametrize("error", [np.nan, np.inf, -np.inf, 1e30, -4.0, 0.0])
def test_any_error_leaves_priorities_sound(kind: Any, error: float) -> None:
    """A skipped update's are not finite: its items are drawn seldom, as if they were 0."""
    replay = Prioritized(kind(100), alpha=0.5, epsilon=0.01)
    state = replay.learned(filled(replay, 1), np.array([2, 4]), jnp.array([error, 0.15]))
    expected = 4.01**0.5 if error == -4 else 0.1
    np.testing.assert_allclose(state.priorities[np.arange(6)], [1, 1, expected, 1, 0.4, 1], 1e-5)
    np.testing.assert_allclose(state.priorities.total, 4.4 + expected, 1e-5)
    assert state.priorities.largest == max(1, np.float32(expected))
    weight = replay.take(state, np.array([2, 0])).extras["weight"]
    assert np.isfinite(weight).all() and (weight > 0).all()


@BOTH
def test_an_item_that_cannot_be_used_is_not_drawn_again(kind: Any) -> None:
    replay = Prioritized(kind(100), alpha=1.0, epsilon=0.0)
    spoilt = steps(3, 3)
    spoilt.reward[0] = 1e20  # of step 3 of environment 0, in row 6
    state = replay.add(filled(replay, 1), spoilt)
    batch = replay.take(state, np.array([1, 6]))
    np.testing.assert_array_equal(batch.reward, [10, 10])
    state = replay.learned(state, np.array([1, 6]), jnp.array([3.0, 3.0]))
    np.testing.assert_array_equal(state.priorities[np.arange(8)], [1, 3, 1, 1, 1, 1, 0, 1])
    assert not (np.asarray(replay.index(state, KEY, (2000,))) == 6).any()
    weight = replay.take(state, np.array([6, 6])).extras["weight"]
    assert np.isfinite(weight).all(), "of a row without a chance"


@BOTH
def test_all_priorities_may_be_zero(kind: Any) -> None:
    replay = Prioritized(kind(100), alpha=1.0, epsilon=0.0)
    state = replay.learned(filled(replay, 1), np.arange(6), jnp.zeros(6))
    index = replay.index(state, KEY, (20,))
    assert ((index >= 0) & (index < 6)).all()
    assert np.isfinite(replay.take(state, index).extras["weight"]).all()


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_beyond_a_window_reaches_it(kind: Any, value: float) -> None:
    """Environment 0 ends after step 3; the infinite reward of step 4 is another episode's."""
    replay, spoilt = NStep(kind(100), n=3, gamma=0.5), steps(3, 3, last=[(3, 0)])
    spoilt.reward[2] = value
    state = replay.add(filled(replay, 1), spoilt)
    np.testing.assert_allclose(replay.at(state, row(2, 0)).reward, [2 + 0.5 * 3])
    whole = replay.take(state, np.concatenate([row(0, 0), row(4, 0), row(1, 1)]))
    np.testing.assert_allclose(whole.reward, [1, 1, 11 + 0.5 * 12 + 0.25 * 13])


# -- in a learner ---------------------------------------------------------------------------------


class Errors(Algorithm):
    """An algorithm whose error of a sample is its reward; its state counts updates."""

    def update(self, state: Any, batch: Step, key: Any) -> Any:
        return state + 1, {"td_error": batch.reward}


ROLLOUT = Rollout(jax.tree.map(lambda x: x.reshape(3, 2, *x.shape[1:]), steps(0, 3)), ())


def test_a_learner_tells_replay_of_the_errors() -> None:
    replay = Prioritized(Replay(100), alpha=1.0, epsilon=0.0)
    learner = OffPolicy(Errors(), replay, batch_size=200, updates=2)
    state = learner.init(jnp.zeros(()), ROLLOUT)
    assert state.replay.stride == 2, "two environments"
    state, metrics = jax.jit(learner.learn)(state, ROLLOUT, KEY)
    assert metrics["td_error"].shape == () and state.algorithm_state == 2
    np.testing.assert_allclose(state.replay.priorities[np.arange(6)], [0, 10, 1, 11, 2, 12])


def test_checkpoints_and_seeds_take_priorities_along() -> None:
    replay = Prioritized(Replay(100))
    state = LearnerState(jnp.zeros(2), filled(replay, 1))
    rest, used = without_rows(state)
    back = with_rows(rest, jax.tree.map(np.array, used), LearnerState({}, filled(replay, 0)))
    np.testing.assert_array_equal(
        back.replay.priorities.levels[0], state.replay.priorities.levels[0]
    )
    axes = seed_axes(state)
    assert axes.replay.cursor is None and set(jax.tree.leaves(axes.replay)) == {0}


@pytest.mark.parametrize(
    "wrap", [lambda r: NStep(r, 3), lambda r: Prioritized(NStep(r, 3))], ids=["n-step", "both"]
)
def test_no_program_copies_the_replay(wrap: Any) -> None:
    """Adding, drawing, reading windows and new priorities in one program: all in place."""
    capacity = 100_003 * 6
    learner: Any = OffPolicy(Errors(), wrap(Replay(capacity)), batch_size=4)
    state = learner.init(jnp.zeros(()), ROLLOUT)
    compiled = jax.jit(learner.learn, donate_argnums=0).lower(state, ROLLOUT, KEY).compile()
    used: Any = compiled.memory_analysis()
    assert used.temp_size_in_bytes < capacity
    assert not re.findall(rf"\[{capacity},\d+\]\S* copy\(", str(compiled.as_text()))


def test_a_window_ends_where_an_agent_is_cut_alone() -> None:
    """Agent 0 is cut with step 1: what it saw last ends the windows of steps 0 and 1."""
    alive = np.array([[True, True], [True, True], [False, True], [False, True]])
    seen = lambda alive, time: {"alive": alive, "view": np.asarray(time, np.float32)[:, None]}
    time, one, no = np.arange(4), np.ones(4, np.float32), np.zeros(4, bool)
    reward = np.stack([[1, 2, 0, 0], [4, 8, 16, 32]], 1).astype(np.float32)
    next_alive = alive.copy()
    next_alive[1] = [True, True]
    given = seen(alive, time), one, reward, one, seen(next_alive, time + 0.5), no, no, {}
    replay = NStep(Replay(10), n=3, gamma=0.5)
    state = replay.add(replay.init(Step(*given)), Step(*given))
    batch = replay.take(state, np.arange(3))
    np.testing.assert_allclose(batch.reward, [[2, 8], [2, 8], [0, 32]])
    np.testing.assert_allclose(batch.next_obs["view"][:, 0], [1.5, 1.5, 3.5])
    np.testing.assert_array_equal(batch.next_obs["alive"][:, 0], [True, True, False])
