"""Dead, cut and waiting are three things: what PettingZoo and tuples tell, and what comes of it."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from agents_that_leave import (
    Cut,
    Leaving,
    NoView,
    Old,
    OldStep,
    Over,
    Parallel,
    Shy,
    Stranger,
    Turns,
    play,
    vector,
)
from gymnasium import spaces

from parl.core.errors import EnvError, SpaceError
from parl.envs.factory import make_factory


def alive(steps: Any) -> Any:
    return np.asarray(steps.next_obs["alive"])[:, 0].tolist()


# --- parallel games


def test_who_is_truncated_alone_is_there_once_more_and_then_not() -> None:
    steps = play(Leaving, 4)
    assert alive(steps) == [[True, True], [True, True], [False, True], [False, True]]
    assert np.asarray(steps.obs["alive"])[:, 0, 0].tolist() == [True, True, False, False]
    np.testing.assert_array_equal(steps.next_obs["view"][1, 0], [[2, 0], [2, 1]])
    np.testing.assert_array_equal(steps.obs["view"][2, 0], [[0, 0], [2, 1]])
    np.testing.assert_array_equal(steps.last[:, 0], [False, False, False, True])
    assert (steps.discount == 1).all()


def test_who_is_terminated_is_not() -> None:
    steps = play(type("Dying", (Leaving,), {"how": "terminated"}), 3)
    assert alive(steps) == [[True, True], [False, True], [False, True]]
    assert not steps.next_obs["view"][1, 0, 0].any()


@pytest.mark.parametrize(("dead", "late"), [(True, False), (False, True), (True, True)])
def test_flags_end_an_episode_though_agents_are_still_listed(dead: bool, late: bool) -> None:
    class Stale(Parallel):
        def step(self, actions: dict[str, int]) -> Any:
            live = list(self.agents)
            seen, rewards, _, over, infos = super().step(actions)
            self.agents = live
            flags = ({a: over[a] and flag for a in live} for flag in (dead, late))
            return seen, rewards, *flags, infos

    steps = play(Stale, 6)
    np.testing.assert_array_equal(steps.last[:, 0], [False, False, False, True, False, False])
    assert float(steps.discount[3, 0]) == (not dead)  # a death counts more than a limit
    assert alive(steps)[3] == [True, True]
    np.testing.assert_array_equal(steps.obs["view"][4, 0, :, 0], [0, 0])


def test_a_listed_agent_with_a_flag_has_left() -> None:
    class Stale(Leaving):
        def step(self, actions: dict[str, int]) -> Any:
            answer = super().step(actions)
            self.agents = ["a", "b"] if self.agents else []
            return answer

    steps = play(Stale, 5)
    assert alive(steps) == [[True, True], [True, True], [False, True], [False, True], [True, True]]


def test_mixed_flags_at_the_end() -> None:
    """a dies in the step in which b is cut: the episode is cut, and a is not in what follows."""

    class Mixed(Parallel):
        def step(self, actions: dict[str, int]) -> Any:
            seen, rewards, dead, late, infos = super().step(actions)
            if not self.agents:
                dead["a"] = True
            return seen, rewards, dead, late, infos

    steps = play(Mixed, 4)
    assert bool(steps.last[3, 0]) and float(steps.discount[3, 0]) == 1
    assert alive(steps)[3] == [False, True]


class Pause(Parallel):
    """b rests at step 2: it is not in `agents`, no flag is set; it is back at step 3."""

    def step(self, actions: dict[str, int]) -> Any:
        assert actions.keys() == set(self.agents)
        answer = super().step(actions)
        if self.time == 2:
            self.agents = ["a"]
            for part in answer:
                part.pop("b")
        if self.time == 3:
            self.agents = ["a", "b"]
            for part, value in zip(answer, (self.view("b"), 0.0, False, False, {}), strict=True):
                part["b"] = value
        return answer


def test_who_leaves_without_a_flag_waits() -> None:
    steps = play(Pause, 4)
    assert alive(steps) == [[True, True]] * 4
    np.testing.assert_array_equal(steps.next_obs["legal"][:, 0, 1].sum(-1), [2, 1, 2, 2])
    np.testing.assert_array_equal(steps.next_obs["view"][:, 0, 1, 0], [1, 1, 3, 4])  # the last seen
    np.testing.assert_array_equal(steps.last[:, 0], [False, False, False, True])


def test_a_mask_without_an_action_tells_how_to_wait() -> None:
    class Mask(Parallel):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            masks = {"a": {"action_mask": [1, 1]}, "b": {"action_mask": [0, 0]}}
            return super().reset(seed, options)[0], masks

    with pytest.raises(EnvError, match="leaves `agents`, without a flag, until it is back"):
        play(Mask, 1)


def test_a_state_that_cannot_be_told_any_more() -> None:
    """Once somebody is not there the last state stands; before, it is the environment's error."""

    class Fragile(Leaving):
        broken = False

        def state(self) -> np.ndarray:
            if len(self.agents) < 2 or self.broken:
                raise AttributeError("'NoneType' object has no attribute 'position'")
            return np.array([self.time, 7.0, 7.0], np.float32)

    steps = play(Fragile, 4)
    np.testing.assert_array_equal(steps.next_obs["state"][:, 0, 0], [1, 1, 1, 1])
    np.testing.assert_array_equal(steps.obs["state"][:, 0, 0], [0, 1, 1, 1])
    env = vector(Fragile)
    env.reset()
    Fragile.broken = True
    with pytest.raises(EnvError, match=r"raised AttributeError in state\(\): 'NoneType'"):
        env.step(np.zeros((1, 2), int))


@pytest.mark.parametrize(
    ("game", "message"),
    [
        (Over, "parallel_v0 starts an episode with nobody in `agents`"),
        (Old, r"parallel_v0: reset must return \(observations, infos\), not dict"),
        (OldStep, r"parallel_v0: step must return \(observations, rewards, terminations"),
        (NoView, "parallel_v0 gives no observation of b, who is in `agents`"),
        (Stranger, "parallel_v0: c is not one of possible_agents"),
        (Shy, "turns_v0 gives no observation of y, who is in `agents`"),
    ],
)
def test_environments_that_break_the_rules(game: Any, message: str) -> None:
    with pytest.raises(EnvError, match=message):
        play(game, 2)


def test_an_environment_without_metadata() -> None:
    Meta = type("Meta", (Parallel,), {"metadata": None})
    assert play(Meta, 1).reward.shape == (1, 1, 2)
    assert make_factory(Meta()).spec.id == "Meta"


# --- turn-based games


def test_a_game_that_is_cut_shows_all_and_the_next_in_line() -> None:
    steps = play(Cut, 2)
    np.testing.assert_array_equal(steps.last[:, 0], [False, True])
    assert float(steps.discount[1, 0]) == 1 and alive(steps)[1] == [True, True]
    np.testing.assert_array_equal(steps.next_obs["turn"][:, 0], [[False, True], [True, False]])
    np.testing.assert_array_equal(steps.next_obs["legal"][1, 0], [[True, True]] * 2)


def test_rewards_are_what_last_tells() -> None:
    """Paid into the cumulative rewards alone, or in both as PettingZoo's own games do."""

    class Direct(Turns):
        def rules(self, mover: str) -> None:
            super().rules(mover)
            self.rewards = dict.fromkeys(self.agents, 0.0)
            self._cumulative_rewards[mover] += 1.0
            self._cumulative_rewards["y"] += 0.5

    for game, expected in ((Direct, [3, 2 + 5 * 0.5]), (Turns, [3, 2])):
        raw, told = game(), {"x": 0.0, "y": 0.0}
        raw.reset()
        for name in raw.agent_iter():
            _, reward, over, _, _ = raw.last()
            told[name] += float(reward)
            raw.step(None if over else 0)
        assert list(told.values()) == expected
        np.testing.assert_allclose(play(game, 5).reward.sum(0)[0], expected)


def test_a_player_that_dies_and_one_that_is_cut_while_others_move() -> None:
    class Three(Turns):
        names = ("x", "y", "z")
        length = 9

        def rules(self, mover: str) -> None:
            super().rules(mover)
            if self.time == 2:
                self.terminations["z"] = True
            if self.time == 3:
                self.truncations["y"] = True

    steps = play(Three, 4)
    assert alive(steps) == [
        [True] * 3,
        [True, True, False],
        [True, True, False],
        [True, False, False],
    ]
    np.testing.assert_array_equal(steps.next_obs["view"][2, 0, :, 0], [3, 3, 0])
    np.testing.assert_array_equal(steps.obs["turn"][:, 0].argmax(-1), [0, 1, 0, 0])


def test_a_turn_of_the_dead_without_end() -> None:
    class Endless(Turns):
        def rules(self, mover: str) -> None:
            self.terminations["y"] = True

        def step(self, action: Any) -> None:
            if self.agent_selection != "y":
                super().step(action)

    with pytest.raises(EnvError, match="turns_v0 gives the turn to y, whose episode is over"):
        play(Endless, 1)


# --- tuples


class Three(gymnasium.Env):
    """Three agents by tuples, one reward of 1 a step for all, 4 steps; flags as given."""

    observation_space = spaces.Tuple([spaces.Box(-9, 9, (1,))] * 3)
    action_space = spaces.Tuple([spaces.Discrete(2)] * 3)

    def view(self) -> Any:
        return (np.full(1, self.time, np.float32),) * 3

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.time = 0
        return self.view(), {}

    def flags(self) -> tuple[Any, Any]:
        return self.time >= 4, False

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.view(), 1.0, *self.flags(), {}


def test_one_reward_for_the_team_counts_once() -> None:
    steps = play(Three, 4)
    np.testing.assert_allclose(steps.reward.sum(-1), 1.0)
    np.testing.assert_array_equal(steps.last[:, 0], [False, False, False, True])


def test_flags_may_be_lists() -> None:
    class Lists(Three):
        def flags(self) -> tuple[Any, Any]:
            return [self.time >= 4] * 3, [False] * 3

    steps = play(Lists, 5)
    np.testing.assert_array_equal(steps.last[:, 0], [False, False, False, True, False])
    assert float(steps.discount[3, 0]) == 0


def test_lists_of_flags_are_of_each_agent() -> None:
    """The first dies in the first step, the second is cut in the second; the reward is shared."""

    class Apart(Three):
        def flags(self) -> tuple[Any, Any]:
            return [True, False, self.time == 3], [False, self.time >= 2, False]

    steps = play(Apart, 3)
    assert alive(steps) == [[False, True, True], [False, True, True], [False, False, True]]
    np.testing.assert_allclose(
        steps.reward[:, 0], [[1 / 3] * 3, [0, 1 / 2, 1 / 2], [0, 0, 1]], rtol=1e-6
    )
    np.testing.assert_array_equal(steps.next_obs["view"][:, 0, 1, 0], [1, 2, 0])


def test_flags_of_another_number() -> None:
    Wrong = type("Wrong", (Three,), {"flags": lambda self: ([False] * 2, False)})
    with pytest.raises(EnvError, match=r"gave flags of shape \(2,\), which must be one for all or"):
        play(Wrong, 1)


def test_tuples_that_are_not_of_agents() -> None:
    seen = spaces.Tuple([spaces.Box(-9, 9, (1,))] * 2)
    parts: Any = {"action_space": spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (1,))))}
    Hybrid = type("Hybrid", (Three,), parts | {"observation_space": seen})
    Unequal = type("Unequal", (Three,), {"observation_space": seen})
    for game in (Hybrid, Unequal):
        with pytest.raises(SpaceError, match="If they are several agents'"):
            vector(game)
