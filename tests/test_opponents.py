"""Opponents by name, contests and cross-play: scores by hand, and one sentence for what fails."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

import parl
from parl.algorithms.wrappers.self_play import SelfPlay, SelfPlayMemory
from parl.cli import main
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.types import Rollout, Step
from parl.envs.factory import make_factory
from parl.runs.build import resolve
from parl.runs.config import RunConfig
from parl.runs.crossplay import Crossplay, Referee, as_json, draw, matrices_of
from parl.runs.evaluation import Contest, Player
from parl.runs.opponents import random_player
from parl.runs.sides import check_team, is_divided

ENV = "jax:tic_tac_toe"
TINY = {"hidden": (4,), "num_envs": 8, "length": 9, "epochs": 1, "minibatches": 1}
RUN: dict[str, Any] = TINY | {
    "steps": 144,
    "eval_every": 72,
    "eval_episodes": 4,
    "absolute_episodes": 8,
}


class Ordered(Algorithm):
    """Takes the first free cell of an order: its policy."""

    def policy(self, state: Any) -> Any:
        return state

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        rank = jnp.where(obs["legal"], jnp.argsort(policy), 99)
        return rank.argmin(-1).astype(jnp.int32), memory, {}


TOP = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8])
LEFT = np.array([0, 3, 6, 1, 4, 7, 2, 5, 8])
LAST = np.array([8, 7, 6, 5, 4, 3, 2, 1, 0])


def hand_played(moves: list[int]) -> Rollout:
    """Moves [T] of both players in turn, in one environment."""
    env, steps = make_factory(ENV).vector(1, 0), []
    obs, first = env.reset(), np.ones(1, bool)
    for move in moves:
        action = np.where(obs["turn"], move, 0).astype(np.int32)
        new = env.step(action)
        extras = {"log_prob": np.zeros((1, 2), np.float32)}
        steps.append(Step(
            obs, action, new.reward, 1.0 - new.terminated, new.next_obs, first, new.terminated,
            extras,
        ))  # fmt: skip
        obs, first = new.obs, new.terminated
    return Rollout(jax.tree.map(lambda *x: np.stack(x), *steps), ())


def test_a_lost_game_reaches_the_losers_moves_on_either_seat() -> None:
    """Player 1 wins with its third stone; two moves of the next game follow, which has no end yet.

    With lambda = 1, values are to be what was paid in the end: 1 at the winner's three moves, -1 at
    the loser's two. The moves of the second game stand on values alone.
    """
    changes = TINY | {"gamma": 1.0, "lambda_": 1.0, "normalize_value": False}
    parts = resolve(RunConfig("ippo", ENV, steps=144, opponent="pool", settings=changes))
    game: Any = parts.learner.algorithm
    params = compiled(game.init)(jax.random.key(0), parts.factory.spec).inner.net.params
    samples_of = compiled(game.inner.samples)
    batch = hand_played([0, 3, 1, 4, 2, 0, 8])
    for side in (0, 1):
        known = {"side": np.full((7, 1), side), "opponent": np.zeros((7, 1), int)}
        steps = batch.steps._replace(extras=batch.steps.extras | known)
        memory = SelfPlayMemory((), (), known["side"][0], known["opponent"][0])
        samples = samples_of(params, game.own(Rollout(steps, memory)))
        active, target = np.array(samples.active), np.array(samples.target)
        assert not active[:, 1 - side].any()
        assert active[:5, side].tolist() == [(t + side) % 2 == 0 for t in range(5)]
        paid = (1.0, -1.0)[side]
        np.testing.assert_allclose(target[:5, side][active[:5, side]], paid, atol=1e-5)


def test_a_contest_by_hand() -> None:
    """TOP first: 0 1 2 wins against LAST's 8 7. LAST first: 8 7 6 wins. Both sides win or lose."""
    factory = make_factory(ENV)
    contest = Contest(factory, Ordered(), 6, Player(Ordered(), LAST), (False, False))
    games = contest(TOP, 0)
    returns = games.returns
    assert returns.shape == (2, 3, 2) and contest.episodes == 6
    np.testing.assert_array_equal(returns[0], [[1, -1]] * 3)  # TOP moves first and wins
    np.testing.assert_array_equal(returns[1], [[1, -1]] * 3)  # LAST moves first and wins
    found = contest.summary([games])
    np.testing.assert_array_equal(found.returns, [1, 1, 1, -1, -1, -1])
    np.testing.assert_array_equal(found.sides, [1, -1])
    assert found.metrics() == {
        "return_mean": 0.0, "return_std": 1.0, "win_rate": 0.5, "draw_rate": 0.0,
        "length_mean": 5.0, "cut_episodes": 0,
    }  # fmt: skip
    both = contest.summary([games, games._replace(returns=-returns)])
    np.testing.assert_array_equal(both.returns[1], -both.returns[0])
    assert both.metrics()["win_rate"] == [0.5, 0.5]


def test_a_crossplay_matrix_by_hand() -> None:
    """Whoever moves first wins, and so every entry is level.

    TOP-TOP 0 1 2 3 4 5 6, TOP-LEFT 0 3 1 6 2, TOP-LAST 0 8 1 7 2, and so on by symmetry.
    """
    players = [Player(Ordered(), x) for x in (TOP, LEFT, LAST)]
    referee = Referee(make_factory(ENV), players, ["a", "a", "a"], 4, 0, False)
    returns, wins = matrices_of([referee.row(i) for i in range(3)])
    np.testing.assert_array_equal(returns, np.zeros((3, 3)))
    assert wins is not None
    np.testing.assert_array_equal(wins, np.full((3, 3), 0.5))


def test_crossplay_tells_the_stronger() -> None:
    """CENTRE beats SLOW on both seats: 4 1 2 5 6 wins a diagonal, and in 1 4 5 2 6 0 7 8 the other.

    Against itself either wins where it moves first, and loses where it moves second.
    """
    centre, slow = np.array([4, 2, 6, 0, 8, 3, 1, 5, 7]), np.array([1, 5, 6, 7, 3, 0, 2, 4, 8])
    players = [Player(Ordered(), x) for x in (centre, slow)]
    referee = Referee(make_factory(ENV), players, ["a", "b"], 2, 0, False)
    returns, wins = matrices_of([referee.row(i) for i in range(2)])
    np.testing.assert_array_equal(returns, [[0, 1], [-1, 0]])
    assert wins is not None
    np.testing.assert_array_equal(wins, [[0.5, 1], [0, 0.5]])


def test_the_picture_and_the_json(tmp_path: Path) -> None:
    returns = np.array([[0.0, 0.5], [-0.5, 0.0]])
    result = Crossplay(ENV, ["a", "b"], returns, 0.5 + returns / 2, 10)
    assert draw(result, tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
    assert as_json(result)["win_rate"] == [[0.5, 0.75], [0.25, 0.5]]
    assert "win_rate" not in as_json(result._replace(win_rate=None))
    json.dumps(as_json(result))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run against the pool."""
    path = tmp_path_factory.mktemp("runs") / "pool"
    return parl.train("ippo", ENV, path, quiet=True, opponent="pool", **RUN).path


def test_a_run_logs_ratings_win_rates_and_the_best_policy(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    result = json.loads((run / "result.json").read_text())
    assert {"elo", "pool_win_rate", "pool_size"} <= lines[-1].keys()
    assert lines[-1]["eval/episodes"] == result["episodes"] == 4
    assert result["absolute/episodes"] == 8 and result["absolute/env_steps"] in (72, 144)
    for values, prefix in ((lines[-1], "eval/"), (result, ""), (result, "absolute/")):
        wins, draws = values[f"{prefix}win_rate"], values[f"{prefix}draw_rate"]
        # a win pays 1, a loss -1
        np.testing.assert_allclose(values[f"{prefix}return_mean"], 2 * wins + draws - 1)
    np.testing.assert_allclose(np.mean(result["side_returns"]), result["return_mean"])
    saved = json.loads((run / "config.json").read_text())
    assert saved["opponent"] == "pool" and saved["admit_every"] == 2


def test_the_frozen_opponent_is_the_other_runs_policy(run: Path) -> None:
    """It is in the state of the run, without the pool that it was trained against itself."""
    config = RunConfig("ippo", ENV, opponent=str(run), settings=TINY)
    algorithm: Any = resolve(config).learner.algorithm
    weights = parl.load(run).get_weights()
    assert isinstance(algorithm, SelfPlay) and not isinstance(algorithm.opponent, SelfPlay)
    np.testing.assert_array_equal(
        np.concatenate([x[0].ravel() for x in leaves_of(algorithm.frozen)]),
        np.concatenate([x.ravel() for x in leaves_of(weights)]),
    )


def leaves_of(tree: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def test_eval_and_crossplay_on_the_command_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run), "--episodes", "4", "--opponent", "random"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["episodes"] == 4 and 0 <= last["win_rate"] <= 1
    out = tmp_path / "x"
    words = ["crossplay", str(run), str(run), "--episodes", "4", "--out", str(out)]
    assert main([*words, "--sample"]) == 0
    printed = capsys.readouterr().out
    assert "win rate of the row" in printed and "loses nothing" in printed
    content = json.loads((out / "crossplay.json").read_text())
    assert content["names"] == ["pool 1", "pool 2"] and content["env"] == ENV
    one, other = content["lossless"]
    assert one == other and 0.1 < one < 1
    assert np.shape(content["returns"]) == (2, 2) and (out / "crossplay.png").exists()


@pytest.mark.slow
def test_a_run_against_another_and_its_resume(run: Path, tmp_path: Path) -> None:
    made = parl.train("ippo", ENV, tmp_path / "x", quiet=True, opponent=str(run), seed=1, **RUN)
    longer = parl.resume(made.path, steps=216, quiet=True)
    assert longer.result["env_steps"] == 216


SENTENCES = {
    "CartPole-v1": ("ppo", "random", "opponent random needs a game of several sides; CartPole-v1"),
    "jax:simple_spread": ("ippo", "pool", "the agents of jax:simple_spread are one team"),
    ENV: (
        "ippo",
        "pol",
        "opponent 'pol' is neither a run directory nor module:attribute nor one of",
    ),
}


@pytest.mark.parametrize("env", SENTENCES)
def test_an_opponent_that_cannot_be_is_one_sentence(env: str) -> None:
    algorithm, opponent, message = SENTENCES[env]
    with pytest.raises(ConfigError, match=message):
        resolve(RunConfig(algorithm, env, opponent=opponent))


def test_runs_of_other_environments_are_one_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = RunConfig("ippo", "jax:connect_four", opponent=str(run))
    with pytest.raises(ConfigError, match="is a run on jax:tic_tac_toe, not on jax:connect_four"):
        resolve(other)
    (tmp_path / "config.json").write_text(json.dumps({"algorithm": "ippo", "env": "jax:penalty"}))
    assert main(["crossplay", str(run), str(tmp_path)]) == 2
    assert "runs of different environments cannot meet" in capsys.readouterr().err
    assert main(["crossplay", str(run)]) == 2
    assert "needs at least two runs" in capsys.readouterr().err


def test_random_opponents_make_legal_moves() -> None:
    factory = make_factory(ENV)
    player = random_player(factory.spec)
    contest = Contest(factory, player.algorithm, 100, player)
    games = contest((), 0)
    wins = [contest.summary([games]).metrics()["win_rate"]]
    assert 0.2 < wins[0] < 0.7 and games.returns.shape == (2, 50, 2)
    # two random players: who moves first wins 0.585 of games, who moves second 0.288
    assert games.returns[:, :, 0].mean() > 0.05


# -- teams ----------------------------------------------------------------------------------------


def test_what_one_wins_and_others_lose_is_not_for_a_team() -> None:
    assert is_divided(np.array([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]]))
    assert is_divided(np.array([[3.0, 1.0], [2.0, 2.0]])), "they share 4"
    assert not is_divided(np.array([[0.5, 0.5], [0.5, 0.5]])), "paid the same"
    assert not is_divided(np.array([[1.0, -1.0], [2.0, 0.0]]))
    assert not is_divided(np.zeros((3, 2)))


def test_teams_are_not_given_games_that_divide_them_nor_opponents() -> None:
    board, tag = make_factory("jax:tic_tac_toe"), make_factory("jax:simple_tag")
    with pytest.raises(ConfigError, match=r"^mappo is for one team, but .* use ippo or iql, "):
        check_team("mappo", board)
    with pytest.raises(ConfigError, match="has no opponents: use ippo with --opponent"):
        check_team("qmix", tag, "random")
    assert check_team("ippo", board) == "" == check_team("mappo", make_factory("jax:simple_spread"))
