"""Goals relabelled in hindsight, with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.agents.replay.hindsight import Hindsight
from parl.agents.replay.ring import NumpyReplay, Replay, ReplayState
from parl.agents.replay.sampling import NStep, Prioritized, out_of_order
from parl.agents.replay.segments import Segments
from parl.core.errors import ConfigError
from parl.core.goals import Goals, Within
from parl.core.types import Step

KEY = jax.random.key(0)
NEAR = Within(0.25)
SPARSE = Goals(NEAR)
ENDING = Goals(NEAR, Within(0.25, 1.0, 0.0))
BOTH = pytest.mark.parametrize("kind", [Replay, NumpyReplay])

pytestmark = pytest.mark.usefixtures("compiled_replay")


def steps(start: int, count: int, last: Any = (), discount: float = 1.0) -> Step:
    """Steps t of environments 0 and 1, at the place t + 100 e, that go on to the next place."""
    t, e = (x.ravel() for x in np.meshgrid(np.arange(start, start + count), [0, 1], indexing="ij"))
    at = np.asarray(t + 100 * e, np.float32)[:, None]
    goal = np.full_like(at, -5.0)
    seen = lambda place: {"observation": place, "achieved_goal": place, "desired_goal": goal}
    ended = np.isin(t, last)
    one = np.ones(len(t), np.float32)
    first = np.isin(t - 1, last) | (t == 0)
    return Step(seen(at), at, -one, discount * one, seen(at + 1), first, ended, {})


def filled(replay: Any, adds: int, last: Any = (), discount: float = 1.0) -> ReplayState:
    """Adds of three steps of each environment."""
    state = replay.init(steps(0, 3), stride=2)
    for i in range(adds):
        state = replay.add(state, steps(3 * i, 3, last, discount))
    return state


def drawn(replay: Any, state: ReplayState, count: int = 2_000) -> tuple[np.ndarray, Any]:
    """(places, the batch) of samples."""
    batch = jax.device_get(replay.draw(state, KEY, (count,))[1])
    return batch.obs["observation"][..., 0], batch


@BOTH
def test_goals_are_what_the_episode_achieved_later(kind: Any) -> None:
    """Steps 0 .. 11; an episode ends at 4. Of each place all later goals come, equally often."""
    replay = Hindsight(kind(100), SPARSE, share=1.0, horizon=20)
    place, batch = drawn(replay, filled(replay, 4, last=[4]))
    goal = batch.obs["desired_goal"][:, 0]
    for start, ends in ((0, 5), (2, 5), (4, 5), (5, 12), (107, 112)):
        found, count = np.unique(goal[place == start], return_counts=True)
        np.testing.assert_array_equal(found, np.arange(start + 1, ends + 1))
        assert count.min() > 0.3 * count.mean(), start
    np.testing.assert_array_equal(batch.next_obs["desired_goal"], batch.obs["desired_goal"])
    np.testing.assert_array_equal(batch.reward, np.where(goal == place + 1, 0.0, -1.0))
    np.testing.assert_array_equal(batch.discount, 1.0)
    np.testing.assert_array_equal(batch.action[:, 0], place)


def test_a_share_of_the_goals_is_replaced() -> None:
    replay = Hindsight(Replay(100), SPARSE, share=0.8, horizon=20)
    _, batch = drawn(replay, filled(replay, 4), 5_000)
    kept = batch.obs["desired_goal"][:, 0] == -5
    np.testing.assert_allclose(kept.mean(), 0.2, atol=0.02)
    np.testing.assert_array_equal(batch.reward[kept], -1.0)


@BOTH
def test_goals_never_come_from_beyond_the_newest_step(kind: Any) -> None:
    """A ring of 6 steps that holds 3 .. 8: those before the cursor are older."""
    replay = Hindsight(kind(12), SPARSE, share=1.0, horizon=20)
    place, batch = drawn(replay, filled(replay, 3))
    goal = batch.obs["desired_goal"][:, 0]
    assert set(np.unique(place % 100)) == {3, 4, 5, 6, 7, 8}
    assert (goal > place).all() and (goal % 100 <= 9).all()
    assert set(goal[place == 5]) == {6, 7, 8, 9}


def test_a_short_horizon() -> None:
    replay = Hindsight(Replay(100), SPARSE, share=1.0, horizon=2)
    place, batch = drawn(replay, filled(replay, 4))
    assert set(batch.obs["desired_goal"][:, 0] - place) == {1, 2}


def test_adds_of_any_environments() -> None:
    """Each add of an asynchronous run is an episode's part of its own."""
    replay = out_of_order(Hindsight(Replay(100), SPARSE, share=1.0, horizon=20))
    place, batch = drawn(replay, filled(replay, 4))
    assert (batch.obs["desired_goal"][:, 0] <= place - place % 100 % 3 + 3).all()


def test_episodes_that_end_at_the_goal() -> None:
    """The step to the new goal ends; one that ended at the old goal would have gone on."""
    replay = Hindsight(Replay(100), ENDING, share=1.0, horizon=20)
    place, batch = drawn(replay, filled(replay, 4))
    hit = batch.obs["desired_goal"][:, 0] == place + 1
    np.testing.assert_array_equal(batch.discount, np.where(hit, 0.0, 1.0))
    one = jax.tree.map(lambda x: jnp.asarray(x[:3]), steps(0, 3, discount=0.0))
    one = one._replace(obs=one.obs | {"desired_goal": jnp.array([[1.0], [7.0], [7.0]])})
    goal, chosen = jnp.array([[3.0], [3.0], [3.0]]), jnp.array([True, True, False])
    new = replay.relabeled(one, goal, chosen)
    # ended at the old goal; ended for another reason; not relabelled
    np.testing.assert_array_equal(new.discount, [1.0, 0.0, 0.0])


@BOTH
def test_all_steps_of_a_window_have_the_same_goal(kind: Any) -> None:
    """Rewards -1 up to the goal, 0 at it: with two steps -1.5, -1 or -0.5."""
    replay = Hindsight(Prioritized(NStep(kind(100), 2, 0.5)), SPARSE, share=1.0, horizon=20)
    place, batch = drawn(replay, filled(replay, 4))
    ahead = batch.obs["desired_goal"][:, 0] - place
    newest = place % 100 == 11
    wanted = np.select([newest, ahead == 1, ahead == 2], [0.0, -0.5, -1.0], -1.5)
    np.testing.assert_allclose(batch.reward, wanted)
    np.testing.assert_allclose(batch.next_obs["observation"][:, 0], place + np.where(newest, 1, 2))
    assert batch.extras["weight"].max() == 1


def test_windows_of_segments() -> None:
    replay = Hindsight(Segments(Replay(100), length=3), SPARSE, share=1.0, horizon=20)
    _, window = drawn_window(replay)
    goal, place = window.steps.obs["desired_goal"][..., 0], window.steps.obs["observation"][..., 0]
    np.testing.assert_array_equal(goal, np.repeat(goal[:, :1], 3, 1))
    np.testing.assert_array_equal(window.steps.reward, np.where(goal == place + 1, 0.0, -1.0))
    np.testing.assert_array_equal(place, place[:, :1] + np.arange(3))


def drawn_window(replay: Any) -> Any:
    return jax.device_get(replay.draw(filled(replay, 4), KEY, (50,)))


def test_goals_that_are_not_finite_are_not_taken() -> None:
    replay = Hindsight(Replay(100), SPARSE, share=1.0, horizon=20)
    state = replay.init(steps(0, 3), stride=2)
    bad = steps(0, 3)
    bad.next_obs["achieved_goal"][4:] = np.nan
    _, batch = drawn(replay, replay.add(state, bad))
    assert np.isfinite(batch.obs["desired_goal"]).all() and np.isfinite(batch.reward).all()
    assert (batch.obs["desired_goal"] == -5).any()


def test_without_a_rule_there_is_no_relabelling() -> None:
    replay = Hindsight(Replay(100))
    with pytest.raises(ConfigError, match="rule by which rewards follow"):
        drawn(replay, filled(replay, 1))
