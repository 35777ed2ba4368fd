"""Several agents: who is dead, cut or waits; teams and sides; what adapters are told."""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

import parl
from fault_cases import case

sys.path.append(str(Path(__file__).parents[2] / "tests"))
import agents_that_leave
from agents_that_leave import NoView, Old, Over, Parallel, Shy, play

from parl import ops
from parl.core.errors import EnvError
from parl.core.types import Step
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv

QUIET: dict[str, Any] = {"quiet": True, "absolute_episodes": 0}


class Turns(agents_that_leave.Turns):
    """x and y move in turn; view [time, what x said]; the mover is paid 1; ends after `length`."""

    said = 0.0

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(-200, 200, (2,), np.float32)

    def observe(self, agent: str) -> np.ndarray:
        return np.array([self.time, self.said], np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.said = 0.0
        super().reset(seed, options)

    def step(self, action: Any) -> None:
        if self.agent_selection == "x" and action is not None:
            self.said = 2.0 * action - 1.0
        super().step(action)


class Ended(Turns):
    """x, then y; then x is paid, and the game is over by `flags`."""

    length, flags = 2, "terminations"

    def rules(self, mover: str) -> None:
        self.rewards = {a: float(self.time == 2 and a == "x") for a in self.agents}
        if self.time == 2:
            setattr(self, self.flags, dict.fromkeys(self.agents, True))


class Dies(Parallel):
    """a dies after the first of 10 steps; the game terminates after 10."""

    length = 10

    def step(self, actions: dict[str, Any]) -> Any:
        seen, rewards, dead, late, infos = super().step(actions)
        if self.time == 1:
            dead["a"], self.agents = True, ["b"]
        if self.time == 10:
            dead = dict.fromkeys(dead, True)
        return seen, rewards, dead, dict.fromkeys(late, False), infos


class Tuples(gymnasium.Env):
    """Three agents by tuples, one reward of 1 a step for the team, 4 steps."""

    observation_space = spaces.Tuple([spaces.Box(-9, 9, (2,))] * 3)
    action_space = spaces.Tuple([spaces.Discrete(2)] * 3)

    def view(self) -> Any:
        return (np.zeros(2, np.float32),) * 3

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.time = 0
        return self.view(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.view(), 1.0, self.time >= 4, False, {}


def algorithm_of(name: str, env: Any, **settings: Any) -> Any:
    """The algorithm that a recipe makes for an environment, without what is wrapped around it."""
    algorithm = parl.Agent.make(name, env, **settings).learner.algorithm
    while hasattr(algorithm, "inner"):
        algorithm = algorithm.inner
    return algorithm


def transitions(name: str, env: Any, steps: Step, next_value: float = 0.0, **settings: Any) -> Any:
    """What an algorithm would learn from, with values of 0 and `next_value` behind each step."""
    full = lambda value: jnp.full(steps.reward.shape, value)
    return algorithm_of(name, env, **settings).transitions(steps, full(0.0), full(next_value))


def refused(game: Any, message: str) -> None:
    """Asserts that the environment is refused with words that contain `message`."""
    try:
        play(game, 4)
    except EnvError as error:
        assert message in str(error), error
    else:
        raise AssertionError(f"{game.__name__} is not refused")


@case("1a")
def a_dying_members_return() -> None:
    """The return of a step in which both took part is the same for the one that dies."""
    moves = transitions("mappo", Dies, play(Dies, 10), gamma=0.5, lambda_=1.0)
    tail = moves.last, moves.next_value, moves.lambda_
    found = ops.lambda_returns(moves.reward, moves.discount, *tail)[0, 0]
    np.testing.assert_allclose(found, 2 + sum(0.5**t for t in range(1, 10)), rtol=1e-5)


class Leave(Parallel):
    """Both earn 1 in each of 30 steps; action 1 of a ends a's life at once, unpaid."""

    length = 30

    def step(self, actions: dict[str, Any]) -> Any:
        seen, rewards, dead, late, infos = super().step(actions)
        if actions.get("a") == 1 and self.time < 30:
            dead["a"], rewards["a"], self.agents = True, 0.0, ["b"]
        if self.time == 30:
            dead = dict.fromkeys(dead, True)
        return seen, rewards, dead, dict.fromkeys(late, False), infos


@case("1b", seconds=900, slow=True)
def nobody_leaves_for_the_team() -> None:
    """Whoever stays earns 1 in every step: 60 of both, in three of three seeds."""
    for name in ("mappo", "ippo"):
        settings = {"steps": 30_000, "num_seeds": 3, "num_envs": 16, "length": 30, "gamma": 0.9}
        run = parl.train(name, Leave, f"run-{name}", eval_episodes=2, **settings, **QUIET)
        found = parl.evaluate(run.path, 2, env=Leave).returns.mean(-1)
        np.testing.assert_allclose(found, 60.0, err_msg=name)


@case("2a")
def a_game_by_turns_that_a_limit_cuts() -> None:
    """x's move is learned from with what it is paid at the end, however the game ends."""
    for flags in ("terminations", "truncations"):
        game = type("Game", (Ended,), {"flags": flags})
        for name in ("ippo", "iql"):
            moves = transitions(name, game, play(game, 2))
            assert bool(moves.active[0, 0, 0]) and float(moves.reward[0, 0, 0]) == 1, (flags, name)


class Say(Turns):
    """x says 0 or 1 and all see it; y moves; then x is paid 1 for `best`, else -1."""

    length, best = 2, True

    def rules(self, mover: str) -> None:
        self.rewards = dict.fromkeys(self.agents, 0.0)
        if self.time == 2:
            self.rewards["x"] = 1.0 if (self.said > 0) == self.best else -1.0
            self.terminations = dict.fromkeys(self.agents, True)


@case("3a", seconds=1200, slow=True)
def what_arrives_after_the_others_move() -> None:
    """x learns which word is paid for, though it is paid after y's move."""
    settings: dict[str, Any] = {"steps": 6000, "num_seeds": 3, "num_envs": 8, "length": 4}
    for name in ("maddpg", "matd3"):
        for best in (False, True):
            game = type("Game", (Say,), {"best": best})
            run = parl.train(
                name, game, f"{name}-{best}", warmup=500, eval_episodes=2, **settings, **QUIET
            )
            found = parl.evaluate(run.path, 2, env=game).agents
            assert found is not None
            np.testing.assert_array_equal(found[..., 0].mean(-1), 1.0, err_msg=f"{name} {best}")


@case("4a")
def flags_without_an_empty_list() -> None:
    """Flags end the episode though `agents` is not emptied."""

    class Stale(Parallel):
        def step(self, actions: dict[str, Any]) -> Any:
            live = list(self.agents)
            answer = super().step(actions)
            self.agents = live
            return answer

    steps = play(Stale, 6)
    assert steps.last[:, 0].tolist() == [False, False, False, True, False, False]


@case("5a")
def one_agent_is_truncated() -> None:
    """Its return goes on behind its last view, which is the one that it was given."""

    class One(Parallel):
        def step(self, actions: dict[str, Any]) -> Any:
            seen, rewards, dead, late, infos = super().step(actions)
            if self.time == 2:
                late["a"], self.agents = True, ["b"]
            return seen, rewards, dead, late, infos

    steps = play(One, 4)
    moves = transitions("ippo", One, steps, next_value=7.0)
    np.testing.assert_allclose(moves.discount[:2, 0, 0], 0.99)
    assert float(moves.next_value[1, 0, 0]) == 7.0
    assert steps.next_obs["view"][1, 0, 0].tolist() == [2.0, 0.0]


@case("6a", seconds=300)
def a_state_that_falls_with_an_agent() -> None:
    """An environment that cannot tell its state once an agent has fallen trains."""

    class Walkers(Dies):
        def state(self) -> np.ndarray:
            if len(self.agents) < 2:
                raise AttributeError("'NoneType' object has no attribute 'position'")
            return np.array([self.time, 1.0, 2.0], np.float32)

    settings = {"steps": 200, "num_envs": 2, "length": 25, "minibatches": 1, "eval_episodes": 1}
    run = parl.train("ippo", Walkers, "run", **settings, **QUIET)
    assert run.result["env_steps"] == 200


@case("8a", seconds=1800, slow=True)
def auto_in_a_game_of_two_sides() -> None:
    """`auto` is well above the level of random play, 0.44 won."""
    run = parl.train(
        "auto",
        "jax:tic_tac_toe",
        "run",
        steps=300_000,
        eval_episodes=20,
        eval_every=300_000,
        **QUIET,
    )
    assert parl.evaluate(run.path, 400, opponent="random").metrics()["win_rate"] > 0.7


@case("10a")
def the_dead_are_in_no_statistics() -> None:
    """Equal views look equal to shared networks, though b dies early."""
    from parl.agents.execution.collector import Collector
    from parl.agents.execution.protocol import Seeds

    class Early(Parallel):
        length = 10

        def view(self, agent: str) -> np.ndarray:
            return np.full(2, 100.0 + self.time % 2, np.float32)

        def step(self, actions: dict[str, Any]) -> Any:
            seen, rewards, dead, late, infos = super().step(actions)
            if self.time == 2:
                dead["b"], self.agents = True, ["a"]
            return seen, rewards, dead, late, infos

    agent = parl.Agent.make("ippo", Early, normalize_obs=True)
    algorithm = agent.learner.algorithm
    collector = Collector([GymnasiumVectorEnv(Early, 1, 0, "t")], algorithm, Seeds((0,)))
    rollout = jax.tree.map(jnp.asarray, collector.collect(agent.weights, 40).rollout)
    stats = algorithm.observe(agent.state.algorithm_state, rollout).obs["['view']"]
    np.testing.assert_allclose(stats.mean[:, 0], 100.5, atol=0.01)
    np.testing.assert_allclose(stats.std[:, 0], 0.5, atol=0.05)
    same = stats(jnp.full((2, 2), 100.0))[:, 0]
    np.testing.assert_allclose(same[0], same[1])


@case("12")
def padded_numbers_of_actions() -> None:
    """Four numbers that b's action does not have count for nothing."""
    from parl.models import recurrent

    class Two(Parallel):
        def action_space(self, agent: str) -> spaces.Space:
            return spaces.Box(-1, 1, (5,) if agent == "a" else (1,))

    agent = parl.Agent.make("ippo", Two)
    obs = GymnasiumVectorEnv(Two, 1, 0, "t").reset()
    algorithm, params = agent.learner.algorithm, agent.state.algorithm_state.net.params
    pi, _ = recurrent.step(algorithm.actor, params["actor"], obs, ())
    one = np.zeros((1, 2, 5), np.float32)
    other = one.copy()
    other[0, 1, 1:] = 1.0
    assert float(pi.log_prob(one)[0, 1]) == float(pi.log_prob(other)[0, 1])
    np.testing.assert_allclose(pi.entropy()[0, 0], 5 * pi.entropy()[0, 1], rtol=1e-5)


@case("13a")
def rewards_that_only_last_tells() -> None:
    """What is paid into the cumulative rewards counts."""

    class Direct(Turns):
        def rules(self, mover: str) -> None:
            super().rules(mover)
            self.rewards = dict.fromkeys(self.agents, 0.0)
            self._cumulative_rewards[mover] += 1.0

    assert play(Direct, 5).reward.sum(0)[0].tolist() == [3.0, 2.0]


@case("14a")
def who_has_won_among_three() -> None:
    """The pool's books and an evaluation agree: the second has won."""
    from parl.algorithms.wrappers.self_play import outcome
    from parl.runs.evaluation import scores_of

    pay, one = np.array([1.0, 3.0, -4.0]), jnp.ones((1, 1), bool)
    steps = Step(None, None, jnp.asarray(pay)[None, None], None, None, one, one, {})
    totals = np.broadcast_to(pay, (3, 1, 3))
    scores = scores_of(totals[np.arange(3), :, np.arange(3)], totals)
    for side, expected in enumerate([0.0, 1.0, 0.0]):
        mine = jnp.arange(3)[None, None] == side
        assert float(outcome(steps, mine)[0, 0]) == float(scores[side, 0]) == expected


@case("16")
def one_reward_for_the_team() -> None:
    """It counts once: 1 in a step, 4 in an episode."""
    steps = play(Tuples, 4)
    np.testing.assert_allclose(steps.reward.sum(), 4.0, rtol=1e-5)
    np.testing.assert_allclose(steps.reward[0].sum(), 1.0, rtol=1e-5)


@case("18", seconds=300)
def flags_as_lists() -> None:
    """One flag for each agent is taken."""

    class Lists(Tuples):
        def step(self, action: Any) -> Any:
            self.time += 1
            return self.view(), [1.0] * 3, [self.time >= 4] * 3, [False] * 3, {}

    run = parl.train(
        "ippo", Lists, "run", steps=512, num_envs=8, length=16, eval_episodes=1, **QUIET
    )
    assert run.result["env_steps"] == 512


@case("19")
def agents_that_pause() -> None:
    """Who leaves `agents` without a flag waits; an empty mask is refused with that advice."""

    class Pause(Parallel):
        def step(self, actions: dict[str, Any]) -> Any:
            answer = super().step(actions)
            if self.time == 2:
                self.agents = ["a"]
                for part in answer:
                    part.pop("b")
            if self.time == 3:
                self.agents = ["a", "b"]
                for part, new in zip(answer, (self.view("b"), 0.0, False, False, {}), strict=True):
                    part["b"] = new
            return answer

    class Mask(Parallel):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            masks = {"a": {"action_mask": [1, 1]}, "b": {"action_mask": [0, 0]}}
            return super().reset(seed, options)[0], masks

    moves = transitions("ippo", Pause, play(Pause, 4))
    np.testing.assert_allclose(moves.discount[:, 0, 1], 0.99)
    refused(Mask, "leaves `agents`, without a flag")


@case("20")
def messages() -> None:
    """Environments that break the rules are named, with what to do."""

    refused(Over, "parallel_v0 starts an episode with nobody in `agents`")
    refused(Old, "parallel_v0: reset must return (observations, infos)")
    refused(NoView, "parallel_v0 gives no observation of b")
    refused(Shy, "turns_v0 gives no observation of y")
    play(type("Meta", (Parallel,), {"metadata": None}), 4)


@case("more-players-than-steps")
def more_players_than_steps() -> None:
    """Six players, rollouts of four steps: each move is learned from."""
    game = type("Six", (Turns,), {"names": tuple("uvwxyz"), "length": 60})
    moves = transitions("ippo", game, play(game, 4), next_value=7.0, gamma=0.5)
    assert moves.active[:, 0].argmax(-1).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(moves.discount[jnp.arange(4), 0, jnp.arange(4)], 0.5)
    np.testing.assert_allclose(moves.reward[jnp.arange(4), 0, jnp.arange(4)], 1.0)


class Limited(Turns):
    """x is paid the number of the move and y one more, until `length` moves set all `flags`."""

    flags = "terminations"

    def rules(self, mover: str) -> None:
        self.rewards = {a: float(self.time + (a == "y")) for a in self.agents}
        if self.time >= self.length:
            setattr(self, self.flags, dict.fromkeys(self.agents, True))


@case("cut-after-odd-moves")
def games_cut_after_any_number_of_moves() -> None:
    """Each mover is paid until its next move, and is valued behind a cut, not behind an end."""
    for length in (1, 2, 3, 5):
        for flags, after in (("terminations", 0.0), ("truncations", 0.5)):
            game = type("Game", (Limited,), {"length": length, "flags": flags})
            steps = play(game, length)
            for name in ("ippo", "iql"):
                moves = transitions(name, game, steps, next_value=8.0, gamma=0.5)
                for time in range(length):
                    mine, ends = time % 2, time + 2 >= length
                    place = time, 0, mine
                    assert bool(moves.active[place]) and not bool(moves.active[time, 0, 1 - mine])
                    paid = steps.reward[time : time + 2, 0, mine].sum()
                    np.testing.assert_allclose(moves.reward[place], paid)
                    np.testing.assert_allclose(moves.discount[place], after if ends else 0.5)


@case("a-waiting-player-is-out")
def a_player_that_is_out_while_it_waits() -> None:
    """Its last move has all that it is paid until then and no more discount; others go on."""

    class Out(Turns):
        names, length = ("x", "y", "z"), 8

        def rules(self, mover: str) -> None:
            self.rewards = {a: 1.0 if a == mover else 0.25 for a in self.agents}
            if self.time == 4:
                self.terminations["z"], self.rewards["z"] = True, -3.0
            if self.time >= self.length:
                self.terminations = dict.fromkeys(self.agents, True)

    moves = transitions("ippo", Out, play(Out, 8), next_value=8.0, gamma=0.5)
    movers = [0, 1, 2, 0, 1, 0, 1, 0]
    assert moves.active[:, 0].argmax(-1).tolist() == movers
    at = jnp.arange(8), 0, jnp.array(movers)
    np.testing.assert_allclose(moves.reward[at], [1.5, 1.5, -2, 1.25, 1.25, 1.25, 1.25, 1])
    np.testing.assert_allclose(moves.discount[at], [0.5, 0.5, 0, 0.5, 0.5, 0.5, 0, 0])


class Alive(gymnasium.Env):
    """Reward 1, cut after 5 steps: with a discount of 0.9 the value is 10."""

    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, key: str) -> None:
        self.key = key
        parts: Any = {"x": spaces.Box(-1, 1, (1,)), key: spaces.Discrete(2)}
        self.observation_space = spaces.Dict(parts)

    def view(self) -> Any:
        return {"x": np.ones(1, np.float32), self.key: 0}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.view(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.view(), 1.0, False, self.time >= 5, {}


@case("F14", seconds=600)
def an_entry_called_alive() -> None:
    """A single agent's entry of that name is an observation: values are those of any other name."""
    from parl.runs.build import load_state
    from parl.runs.directory import RunDir

    settings: dict[str, Any] = {"critic_learning_rate": 3e-3, "tau": 0.05, "hidden": (16,)}
    settings |= {"warmup": 64, "batch_size": 32, "capacity": 3000, "gamma": 0.9, "steps": 2500}
    for key in ("lives", "alive"):
        make = lambda key=key: Alive(key)
        run = parl.train(
            "td3", make, f"run-{key}", eval_every=10**6, eval_episodes=1, **settings, **QUIET
        )
        parts, state = load_state(RunDir(run.path), make)
        obs = {"x": np.ones((1, 1), np.float32), key: np.zeros(1, np.int32)}
        critic, action = parts.learner.algorithm.critic, np.zeros((1, 1), np.float32)
        value = np.ravel(critic.apply(state.algorithm_state.critic.params, obs, action))
        np.testing.assert_allclose(value, 10.0, atol=1.5, err_msg=key)


class Three(Turns):
    """Three sides say 0 or 1 twice in turn; who says most wins 2 from the others, else a draw."""

    names = ("x", "y", "z")
    length = 6

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.sums = dict.fromkeys(self.names, 0.0)
        super().reset(seed, options)

    def step(self, action: Any) -> None:
        if action is not None:
            self.sums[self.agent_selection] += float(np.asarray(action).reshape(()))
        super().step(action)

    def rules(self, mover: str) -> None:
        over, best = self.time >= self.length, max(self.sums.values())
        first = [name for name, total in self.sums.items() if total == best]
        won = over and len(first) == 1
        self.rewards = {a: won * (2.0 if a in first else -1.0) for a in self.agents}
        if over:
            self.terminations = dict.fromkeys(self.agents, True)


class Reals(Three):
    """The same with real numbers."""

    said = 0.0

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Box(-1, 1, (1,), np.float32)

    def observe(self, agent: str) -> np.ndarray:
        return np.float32([self.time, self.sums[agent]])


@case("three-sides", seconds=600)
def three_sides() -> None:
    """Of three sides: the pool, cross-play, MATD3 by turns, and PettingZoo's own loop."""
    from parl.runs.crossplay import crossplay

    small: dict[str, Any] = QUIET | {"hidden": (8,), "num_envs": 4, "eval_episodes": 3}
    on = small | {"steps": 240, "length": 12, "minibatches": 1, "epochs": 1}
    pooled = parl.train("ippo", "fault_cases.team:Three", "pooled", opponent="pool", **on)
    parl.train("ippo", "fault_cases.team:Three", "plain", **on)
    lines = (pooled.path / "metrics.jsonl").read_text().splitlines()
    ratings = [json.loads(line).get("elo") for line in lines]
    assert all(abs(rating - 1000) < 200 for rating in ratings if rating is not None), ratings
    table = crossplay(["pooled", "plain"], episodes=3)
    assert table.win_rate is not None and ((table.win_rate >= 0) & (table.win_rate <= 1)).all()
    off = small | {"steps": 120, "length": 6, "warmup": 60, "batch_size": 8, "capacity": 500}
    parl.train("matd3", "fault_cases.team:Reals", "reals", **off)
    for run, game in (("plain", Three()), ("reals", Reals())):
        agent, told = parl.load(run), dict.fromkeys(game.names, 0.0)
        game.reset(seed=0)
        for name in game.agent_iter():
            obs, reward, terminated, truncated, info = game.last()
            told[name] += reward
            over = terminated or truncated
            action = None if over else agent.predict(obs, info, agent=name)
            assert over or game.action_space(name).contains(action), action
            game.step(action)
        assert sum(told.values()) == 0 and agent.acts == 6, told
