"""Playing episodes: cut, told, stopped; and what a run affords of them."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import parl
from parl.agents.execution import ended as ends
from parl.agents.execution.protocol import Report
from parl.core.algorithm import Algorithm
from parl.envs.classic.cartpole import CartPole
from parl.envs.factory import from_gymnasium, from_jax
from parl.envs.info import LastNumbers, number_in
from parl.ops import t_interval
from parl.report.progress import short, spread
from parl.runs.budget import Budget
from parl.runs.clock import Clock
from parl.runs.episodes import Rules, Stopped
from parl.runs.evaluation import Evaluator
from parl.runs.meter import Meter, per_seed, told_of
from parl.runs.result import returns_line, summary
from parl.runs.waits import in_words


class Always(Algorithm):
    """Action 0, or 1 where it explores."""

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        return jnp.full(obs.shape[0], int(explore), jnp.int32), memory, {}


class Walk(gymnasium.Env):
    """Episode n has n % 3 + 2 steps, those of n % 3 == 2 never end; tells its step and action."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)
    number = -1

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.number, self.t = self.number + 1, 0
        return np.zeros(1, np.float32), {"step": -1.0}

    def step(self, action: Any) -> Any:
        self.t += 1
        kind = self.number % 3
        told = {"step": self.t, "deep": {"action": np.int64(action)}, "text": "x"}
        return np.zeros(1, np.float32), 1.0, kind < 2 and self.t == kind + 2, False, told


class Endless:
    """A JAX environment without an end that pays 3e38 a step."""

    spec = parl.EnvSpec("endless", parl.Box((1,)), parl.Discrete(2))

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), jnp.zeros(1)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        no = jnp.bool_(False)
        return state + 1, jnp.zeros(1), jnp.float32(3e38), no, no


def played(episodes: int, **rules: Any) -> Any:
    return Evaluator(from_gymnasium(Walk, "walk"), Always(), episodes, Rules(**rules))((), 0)


def test_an_episode_without_end_is_cut_on_the_host() -> None:
    """Two environments play three episodes each: of 2 and 3 steps, and one that is cut at 7."""
    games = played(20, max_steps=7, log_info=("step", "deep/action", "text", "none"))
    np.testing.assert_array_equal(games.lengths, [2, 3] * 10)
    assert not games.cut.any()
    evaluator = Evaluator(from_gymnasium(Walk, "walk"), Always(), 6, Rules(7, ("step", "none")))
    env = from_gymnasium(Walk, "walk").vector(2, 0)
    games = evaluator.host(env, (), 7, jax.random.key(0))
    np.testing.assert_array_equal(games.lengths, [2, 3, 7, 2, 2, 3, 7])
    np.testing.assert_array_equal(games.returns, games.lengths)
    np.testing.assert_array_equal(games.cut, games.lengths == 7)
    np.testing.assert_array_equal(games.infos["step"], games.lengths)
    assert np.isnan(games.infos["none"]).all()
    found = evaluator.summary([games])
    assert found.metrics()["cut_episodes"] == 2 and found.metrics()["info/none"] is None
    assert "2 of 7 evaluation episodes were cut after 7 steps" in found.cut_line("walk")
    both = evaluator.summary([games, games])
    assert both.metrics()["cut_episodes"] == [2, 2]
    assert both.metrics()["info/step"] == [26 / 7] * 2 and both.metrics()["info/none"] == [None] * 2


def test_info_numbers_are_the_last_of_an_episode() -> None:
    games = played(4, log_info=("step", "deep/action", "text"), sample=True)
    np.testing.assert_array_equal(games.infos["step"], [2] * 4)
    np.testing.assert_array_equal(games.infos["deep/action"], [1] * 4)  # they sample
    assert np.isnan(games.infos["text"]).all()


def test_an_episode_without_end_is_cut_in_a_program() -> None:
    evaluator = Evaluator(from_jax(Endless()), Always(), 4, Rules(100))
    games = evaluator((), 0, episodes=3)
    np.testing.assert_array_equal(games.lengths, [100] * 3)
    assert games.cut.all() and games.returns.dtype == np.float64
    np.testing.assert_allclose(games.returns, 3e40, rtol=1e-5)  # beyond float32


def test_a_program_played_in_parts_gives_the_same_numbers() -> None:
    env = CartPole(max_steps=200)
    evaluator = Evaluator(from_jax(env), Always(), 30)
    games = evaluator((), 3)
    assert not games.cut.any() and 8 < games.lengths.mean() < 12
    np.testing.assert_array_equal(games.returns, games.lengths)
    fused = evaluator.fused
    assert fused is not None
    key = jax.random.key(5)
    board = fused.start(fused.data, key, 30)
    for until in (3, 4, 200):
        board = fused.go_on(fused.data, (), board, key, until)
    np.testing.assert_array_equal(board.lengths, fused((), 30, key).lengths)
    np.testing.assert_array_equal(fused((), 7, key).lengths, board.lengths[:7])
    assert fused.go_on._cache_size() == fused.start._cache_size() == 1


@pytest.mark.parametrize("factory", [from_gymnasium(Walk, "walk"), from_jax(Endless())])
def test_playing_stops_when_it_is_told_to(factory: Any) -> None:
    asked = iter([False, True])
    evaluator = Evaluator(factory, Always(), 3, Rules(10**9, stopped=lambda: next(asked)))
    with pytest.raises(Stopped):
        evaluator((), 0)


def test_numbers_in_infos() -> None:
    agents = {"a": {"win": True}, "b": {"win": 0.0}, "c": {"other": 3}}
    assert number_in(agents, "win") == 0.5
    assert number_in({"episode": {"r": np.array([2.5])}}, "episode/r") == 2.5
    assert number_in({"x": "text"}, "x") is number_in({"x": [1, 2]}, "x") is number_in((), "x")
    told = LastNumbers(["x"], (2,))
    told.see([{"x": 1}, {}])
    told.see([{}, {"x": np.float32(4)}])
    np.testing.assert_array_equal(told.values, [[1], [4]])
    told.forget(np.array([True, False]))
    np.testing.assert_array_equal(told.values, [[np.nan], [4]])


def test_what_a_run_affords() -> None:
    """HalfCheetah's length for 100,000 steps: five single episodes on the way, five at the end."""
    budget, sizes = Budget(1000, 100_000), []
    for step in range(10_000, 100_000, 10_000):
        size = budget.now(step)
        sizes.append(size)
        if size:
            budget.evaluated(np.full(size, 1000))
    sizes.append(budget.at_end(100_000))
    assert sizes == [0, 1, 0, 1, 0, 1, 0, 1, 0, 5]
    assert Budget(1000, 40_000).now(20_000) == 0, "the end is worth more"
    short_ones = Budget(500, 100_000)
    assert short_ones.now(10_000) == 1
    short_ones.trained(ends.nothing()._replace(count=np.int64(10), length_sum=np.int64(200)))
    assert short_ones.length == 40 and short_ones.now(10_000) == 10
    assert short_ones.at_end(10) == 5, "however short the run"
    assert short_ones.at_end(10_000_000) == 20 and short_ones.absolute(10_000_000) == 200
    again = Budget(500, 100_000)
    again.load(short_ones.state())
    assert again == short_ones


def test_time_is_counted_apart() -> None:
    now = [0.0]
    clock = Clock(lambda: now[0])
    now[0] = 2.0
    clock.switch("train")
    meter = Meter(0, clock)
    now[0] = 6.0
    with clock.spending("eval"):
        now[0] = 16.0
    clock.steps += 200
    now[0] = 7.0 + 10.0
    assert clock.read() == {"start": 2, "compile": 0, "train": 5, "eval": 10, "save": 0}
    assert clock.rate() == meter.rate() == 40.0 and clock.total == 17.0
    meter.add(Report({}, ends.nothing(), {"wait": 2.0, "publish": 0.5}))
    meter.add(Report({}, ends.nothing(), {"wait": 1.0}))
    whole = 4.0 + 10.0 + 1.0  # of training, evaluation and training since the meter began
    assert meter.shares() == {
        "wait_share": round(3 / whole, 4), "compute_share": round(1.5 / whole, 4),
        "publish_share": round(0.5 / whole, 4), "eval_share": round(10 / whole, 4),
        "save_share": 0.0,
    }  # fmt: skip
    assert Clock(lambda: now[0]).rate() is None
    other = Clock(lambda: now[0])
    other.add(clock.read(), clock.steps)
    assert other.read() == clock.read() and other.rate() == 40.0


def test_training_episodes_in_numbers() -> None:
    one = ends.Ended(*map(np.array, (2, 6e38, 2e38, 4e38, 12, [3.0, 0.0], [2, 0])))
    none = ends.nothing((), 2)
    told = told_of(ends.total([none, one, one]), ("a", "b"))
    assert told == {
        "episodes": 4, "return_mean": 3e38, "return_min": 2e38, "return_max": 4e38,
        "length_mean": 6.0, "info/a": 1.5, "info/b": None,
    }  # fmt: skip
    assert told_of(none, ("a",))["return_mean"] is None
    last = jnp.array([[True, False], [False, True]])
    lengths, returns = jnp.array([[3, 1], [1, 2]]), jnp.array([[3e38, 0.0], [9.0, 3e38]])
    counted = ends.unscaled(jax.jit(ends.ended)(returns, lengths, last))
    assert counted.count == 2 and counted.length_sum == 5 and counted.return_sum > 5.9e38
    assert per_seed("x", [1.0, None]) == {"x": 1.0, "x_seeds": [1.0, None]}


def test_intervals_over_seeds() -> None:
    """By the table: t of 2 degrees of freedom at 0.975 is 4.303."""
    mean, low, high = t_interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2.0
    np.testing.assert_allclose((low, high), (2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), rtol=1e-4)
    assert t_interval(np.array([5.0])) == (5.0, 5.0, 5.0)
    one = summary([1.0, 3.0], of_seeds=False)
    assert one is not None and one["seeds"] == [2.0] and one["over"] == "2 episodes"
    result = {"return": summary([100.0, 200.0, 300.0]), "episodes": 20, "of": "evaluation"}
    assert returns_line(result) == (
        "return 200.0 (95% t interval over 3 seeds: -48.4 to 448.4; 100.0, 200.0, 300.0), "
        "20 greedy episodes each"
    )


def test_digits_follow_the_scale() -> None:
    pairs = (0.95, 0.22), (455, 12.34), (-1, 0), (1234.5, 123), (1e-9, 0)
    assert [spread(*pair) for pair in pairs] == [
        "0.95 ± 0.22", "455.0 ± 12.3", "-1 ± 0", "1,234.5 ± 123.0", "1e-09 ± 0",
    ]  # fmt: skip
    assert short(3e38) == "3e+38" and short(0.18) == "0.18" and short(12345.6) == "12,345.6"


def test_agents_of_pettingzoo_tell_their_infos() -> None:
    zoo = pytest.importorskip("pettingzoo")

    class Two(zoo.ParallelEnv):
        metadata, possible_agents, render_mode = {"name": "two"}, ["a", "b"], None

        def observation_space(self, agent: Any) -> Any:
            return spaces.Box(-1, 1, (1,))

        def action_space(self, agent: Any) -> Any:
            return spaces.Discrete(2)

        def seen(self) -> Any:
            return {name: np.zeros(1, np.float32) for name in self.possible_agents}

        def reset(self, seed: Any = None, options: Any = None) -> Any:
            self.agents, self.t = list(self.possible_agents), 0
            return self.seen(), {"a": {}, "b": {}}

        def step(self, actions: Any) -> Any:
            self.t += 1
            flags = dict.fromkeys(actions, self.t == 3)
            if self.t == 3:
                self.agents = []
            no, infos = dict.fromkeys(actions, False), {"a": {"hit": self.t}, "b": {"hit": 0}}
            return self.seen(), dict.fromkeys(actions, 1.0), flags, no, infos

    env = from_gymnasium(Two, "two").vector(1, 0)
    env.reset()
    for step in (1, 2, 3):
        assert env.step(np.zeros((1, 2), np.int32)).terminated.tolist() == [step == 3]
        assert number_in(env.infos[0], "hit") == step / 2


def test_what_the_learner_waits_for_in_words() -> None:
    line = {"compute_share": 0.1, "publish_share": 0.0, "eval_share": 0.0, "save_share": 0.0}
    first = {"wall_s": 10.0, "wait_share": 0.9} | line
    last = {"wall_s": 40.0, "wait_share": 0.5, "pool/lag_p50": 1.0, "pool/lag_p99": 3.5} | line
    assert in_words([first, last]) == (
        "the learner's time: waiting for data 60%, computing 10%; lag p50 1, p99 3.5 versions"
    )
    assert in_words([{"wall_s": 1.0}]) == in_words([]) == ""
