"""Windows of steps from replay: those of the rollouts that they came from, whatever the cursor."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.agents.learner import LearnerState, OffPolicy, seed_axes
from parl.agents.replay.ring import Layout, NumpyReplay, Replay, ReplayState
from parl.agents.replay.sampling import Prioritized, out_of_order
from parl.agents.replay.segments import Segments
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.types import Rollout, Step, Window

KEY = jax.random.key(0)
BOTH = pytest.mark.parametrize("kind", [Replay, NumpyReplay])

pytestmark = pytest.mark.usefixtures("compiled_replay")


class Played(NamedTuple):
    """What environments did: numbers [T, B] that name the steps, and the episodes' ends."""

    number: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def steps(self, start: int, length: int) -> Step:
        """So many steps from a time on, as items [length * B, ...]; memory is -number."""
        part = lambda x: x[start : start + length].reshape(-1)
        number, first, last = map(part, self)
        one, extras = np.ones_like(number), {"memory": (-number[:, None], -10 * number)}
        return Step(
            number[:, None], number, number, one, number[:, None] + 0.5, first, last, extras
        )


def played(rng: Any, length: int, envs: int, ends: float = 0.0, breaks: float = 0.0) -> Played:
    """Episodes that end by chance, and some that open without the end of the one before."""
    number = np.arange(length)[:, None] + 1000.0 * np.arange(envs)
    last = rng.random((length, envs)) < ends
    first = np.concatenate([np.ones((1, envs), bool), last[:-1]])
    broken = rng.random((length, envs)) < breaks
    return Played(number.astype(np.float32), first | broken, last)


def filled(replay: Any, of: Played, length: int) -> ReplayState:
    """A ring after rollouts of a length."""
    state = replay.init(of.steps(0, length), stride=of.first.shape[1])
    for start in range(0, len(of.first), length):
        state = replay.add(state, of.steps(start, length))
    return state


def joined(window: Window) -> Step:
    """All steps of windows, burn-in included."""
    return jax.tree.map(lambda *x: np.concatenate(x, 1), window.before, window.steps)


def check(rng: Any) -> None:
    """Every window of a random ring, against the steps as they were played."""
    envs, length, adds = rng.integers(1, 5), rng.integers(1, 8), rng.integers(1, 9)
    burn_in, size = sorted(rng.integers(0, 9, 2))
    size += burn_in == size
    of = played(rng, length * adds, envs, *rng.choice([0.0, 0.1, 0.4], 2))
    capacity = int(envs * (size + length + rng.integers(0, 30)))
    replay = Segments(NumpyReplay(capacity), length=int(size), burn_in=int(burn_in))
    in_order = bool(rng.integers(2)) or length < size
    state = filled(replay if in_order else out_of_order(replay), of, int(length))
    place, held = np.arange(int(state.size)), int(state.size) // envs
    window = replay.at(state, place)
    rows, newest = len(state.rows["float32"]), len(of.first) - 1
    time, env = newest - (int(state.cursor) - 1 - place) % rows // envs, place % envs
    opened, final = (newest + 1 - held, newest) if in_order else (time - time % length, 0)
    final = final if in_order else opened + length - 1
    start = np.maximum(np.minimum(time, final + 1 - size), opened)
    times = start[:, None] + np.arange(size)
    stored, own = (final >= times.T).T, (np.minimum(times, newest), env[:, None])
    steps = joined(window)
    assert np.array_equal(steps.reward[stored], of.number[own][stored])
    assert np.array_equal(steps.first[stored], of.first[own][stored])
    assert np.array_equal(window.memory[0][:, 0], -of.number[start, env])
    assert np.array_equal(window.memory[1], -10 * of.number[start, env])
    there, one = stored.copy(), stored.copy()
    for t in range(1, size):
        opens = of.first[own][:, t]
        there[:, t] &= there[:, t - 1] & (opens == of.last[own][:, t - 1])
        one[:, t] = there[:, t] & ((t <= burn_in) | (~opens & one[:, t - 1]))
    assert np.array_equal(window.there, there[:, burn_in:])
    assert np.array_equal(window.one_episode, one[:, burn_in:])


def test_windows_are_what_was_played_whatever_the_cursor() -> None:
    """1,000 random rings."""
    for seed in range(1000):
        check(np.random.default_rng(seed))


# -- worked numbers -------------------------------------------------------------------------------


@BOTH
def test_a_window_with_its_burn_in_and_its_memory(kind: Any) -> None:
    """Two environments, three rollouts of three steps; the episode of environment 1 ends at 3."""
    of = played(np.random.default_rng(0), 9, 2)
    of.last[3, 1] = of.first[4, 1] = True
    replay = Segments(kind(100), length=5, burn_in=2)
    window = replay.take(filled(replay, of, 3), np.array([2 * 2 + 0, 2 * 1 + 1, 2 * 7 + 0]))
    np.testing.assert_array_equal(window.before.reward, [[2, 3], [1001, 1002], [4, 5]])
    np.testing.assert_array_equal(window.steps.reward, [[4, 5, 6], [1003, 1004, 1005], [6, 7, 8]])
    np.testing.assert_array_equal(window.memory[0][:, 0], [-2, -1001, -4])
    np.testing.assert_array_equal(window.memory[1], [-20, -10010, -40])
    assert np.all(window.there) and window.steps.extras == {}
    np.testing.assert_array_equal(window.one_episode[1], [True, False, False])


@BOTH
def test_fewer_steps_than_a_window(kind: Any) -> None:
    """Three of five steps are there, from the first one on; all are finite numbers."""
    of = played(np.random.default_rng(0), 3, 2)
    replay = Segments(kind(100), length=5, burn_in=1)
    state = filled(replay, of, 3)
    window = replay.take(state, np.arange(6))
    np.testing.assert_array_equal(window.there, [[True, True, False, False]] * 6)
    np.testing.assert_array_equal(window.before.reward[:, 0], [0, 1000] * 3)
    assert set(np.asarray(replay.index(state, KEY, (50,)))) == {0}, "no other start has more"


def test_starts_are_drawn_uniformly_among_whole_windows() -> None:
    """A ring of 12 rows, two environments, windows of 4: six starts of steps 3 .. 5."""
    of = played(np.random.default_rng(0), 9, 2)
    replay = Segments(Replay(12), length=4)
    state = filled(replay, of, 3)
    drawn = replay.index(state, KEY, (6000,))
    first = np.asarray(replay.at(state, drawn).steps.reward[:, 0])
    found, counts = np.unique(first, return_counts=True)
    np.testing.assert_array_equal(found, [3, 4, 5, 1003, 1004, 1005])
    np.testing.assert_allclose(counts / 6000, 1 / 6, atol=0.02)


@BOTH
def test_windows_of_asynchronous_rollouts_stay_within_them(kind: Any) -> None:
    """Rollouts of four steps in any order: windows of three start at 0, 1, 4, 5, 8 and 9."""
    of = played(np.random.default_rng(0), 12, 2)
    replay = out_of_order(Segments(kind(16), length=3))
    state = filled(replay, of, 4)  # the first rollout was written over
    drawn = replay.index(state, KEY, (4000,))
    found, counts = np.unique(
        np.asarray(replay.at(state, drawn).steps.reward[:, 0]), return_counts=True
    )
    np.testing.assert_array_equal(found, [4, 5, 8, 9, 1004, 1005, 1008, 1009])
    np.testing.assert_allclose(counts / 4000, 1 / 8, atol=0.02)
    with pytest.raises(
        ConfigError, match="windows of 3 steps do not fit into the rollouts of 2 st"
    ):
        out_of_order(Segments(kind(16), length=3)).init(of.steps(0, 2), stride=2)


@BOTH
def test_changes_are_of_whole_windows(kind: Any) -> None:
    """As of relabelled goals, one for each window."""
    of = played(np.random.default_rng(0), 9, 1)
    replay = Segments(kind(9), length=3, burn_in=1)
    more = np.array([100.0, 200.0], np.float32)
    change = lambda steps: steps._replace(reward=steps.reward + more)
    window = replay.at(filled(replay, of, 9), np.array([1, 4]), change)
    np.testing.assert_array_equal(window.before.reward, [[101], [204]])
    np.testing.assert_array_equal(window.steps.reward, [[102, 103], [205, 206]])


def test_windows_that_hold_nan_are_replaced() -> None:
    of = played(np.random.default_rng(0), 9, 1)
    of.number[4] = np.nan
    replay = Segments(Replay(100), length=3)
    window = replay.take(filled(replay, of, 9), np.array([0, 2, 3, 4, 5, 6]))
    np.testing.assert_array_equal(window.steps.reward[:, 0], [0, 0, 0, 0, 5, 6])


@BOTH
def test_windows_by_priority(kind: Any) -> None:
    """Weights as of single steps: priorities 2 and 1 of a total of 12 in nine rows."""
    of = played(np.random.default_rng(0), 9, 1)
    replay = Prioritized(Segments(kind(9), length=3, burn_in=1), alpha=1.0, beta=1.0, epsilon=0.0)
    state = replay.learned(filled(replay, of, 3), np.array([1, 2]), jnp.array([2.0, 3.0]))
    window = replay.take(state, np.array([1, 2, 0]))
    np.testing.assert_allclose(window.extras["weight"], [1 / 2, 1 / 3, 1], rtol=1e-6)
    np.testing.assert_array_equal(window.before.reward[:, 0], [1, 2, 0])
    drawn = np.asarray(replay.index(state, KEY, (4000,)))
    np.testing.assert_allclose(np.bincount(drawn)[:3] / 4000, np.array([1, 2, 3]) / 12, atol=0.03)


def test_windows_of_a_data_set() -> None:
    """One environment, no memory; the ring is full and its cursor at 0."""
    steps = played(np.random.default_rng(0), 6, 1).steps(0, 6)._replace(extras={})
    layout = Layout.of(steps)
    replay = Segments(NumpyReplay(6), length=3)
    state = replay.filled(layout.pack(steps, np), layout, ())
    window = replay.take(state, np.arange(6))
    np.testing.assert_array_equal(window.steps.reward[:, 0], [0, 1, 2, 3, 3, 3])
    assert window.memory == () and window.there.all()


# -- learners -------------------------------------------------------------------------------------


class Errors(Algorithm):
    """An algorithm whose error of a window is the reward of its last step."""

    def update(self, state: Any, batch: Window, key: Any) -> Any:
        return state + batch.there.sum(), {"td_error": batch.steps.reward[:, -1]}


def rollout(envs: int = 2) -> Rollout:
    of = played(np.random.default_rng(0), 6, envs)
    lift = lambda x: x.reshape(6, envs, *x.shape[1:])
    return Rollout(jax.tree.map(lift, of.steps(0, 6)), ())


def test_several_seeds_draw_windows_of_their_own() -> None:
    replay = Prioritized(Segments(Replay(12), length=3, burn_in=1))
    learner = OffPolicy(Errors(), replay, batch_size=8, updates=2)
    one = rollout()
    both = jax.tree.map(lambda x: jnp.stack([x, x + 1 if x.dtype == "float32" else x]), one)
    state = learner.init(jnp.zeros(2), jax.eval_shape(lambda: one), (2,))
    axes = seed_axes(state)
    learn = jax.vmap(learner.learn, (axes, 0, 0), (axes, 0))
    state, metrics = jax.jit(learn)(state, both, jax.random.split(KEY))
    np.testing.assert_array_equal(state.algorithm_state, [2 * 8 * 2] * 2)
    alone = learner.init(jnp.zeros(()), jax.eval_shape(lambda: one))
    for k in range(2):
        own = jax.tree.map(lambda x, k=k: x[k], both)
        _, info = jax.jit(learner.learn)(alone, own, jax.random.split(KEY)[k])
        np.testing.assert_allclose(metrics["td_error"][k], info["td_error"], rtol=1e-6)


def test_no_program_copies_the_replay() -> None:
    capacity = 100_003 * 12
    replay = Prioritized(Segments(Replay(capacity), length=3, burn_in=1))
    learner = OffPolicy(Errors(), replay, batch_size=4)
    state: LearnerState = learner.init(jnp.zeros(()), rollout())
    compiled = jax.jit(learner.learn, donate_argnums=0).lower(state, rollout(), KEY).compile()
    used: Any = compiled.memory_analysis()
    assert used.temp_size_in_bytes < capacity
    assert not re.findall(rf"\[{capacity},\d+\]\S* copy\(", str(compiled.as_text()))


@pytest.mark.parametrize("burn_in", [-1, 4, 5])
def test_a_burn_in_has_to_be_shorter_than_the_window(burn_in: int) -> None:
    replay = Segments(Replay(100), length=4, burn_in=burn_in)
    with pytest.raises(
        ConfigError, match=rf"^a burn-in of {burn_in} steps leaves nothing .* of 4;"
    ):
        replay.init(rollout().steps)


def test_windows_have_to_fit_the_replay() -> None:
    of = played(np.random.default_rng(0), 6, 2)
    with pytest.raises(ConfigError, match="windows of 7 steps do not fit"):
        Segments(Replay(13), length=7).init(of.steps(0, 6), stride=2)
