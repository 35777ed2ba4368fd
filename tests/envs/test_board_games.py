"""Tic-tac-toe and connect four: the rules by hand, and move by move beside PettingZoo's games."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.envs.multi.board_games import CONNECT_FOUR, TIC_TAC_TOE, BoardGame, winning_lines

KEY = jax.random.key(0)
GAMES = {"tictactoe_v3": TIC_TAC_TOE, "connect_four_v3": CONNECT_FOUR}
games = pytest.mark.parametrize("module", GAMES)


@cache
def jitted(game: BoardGame) -> Any:
    return jax.jit(game.step)


def play(game: BoardGame, moves: list[int]) -> Any:
    """The last answer of a game, after checking that it went on until then."""
    state, obs = game.reset(KEY)
    answer: Any = None
    for time, move in enumerate(moves):
        assert answer is None or not answer[3], "the game is over already"
        player = time % 2
        np.testing.assert_array_equal(obs["turn"], np.arange(2) == player)
        action = jnp.zeros(2, jnp.int32).at[player].set(move)
        answer = jitted(game)(state, action, KEY)
        state, obs = answer[:2]
    return answer


@pytest.mark.parametrize(
    "moves, reward",
    [
        ([0, 3, 1, 4, 2], [1, -1]),  # a row of the first player
        ([0, 2, 1, 4, 8, 6], [-1, 1]),  # a diagonal of the second
        ([0, 1, 3, 4, 8, 7], [-1, 1]),  # a column of the second
        ([4, 0, 2, 6, 3, 5, 1, 7, 8], [0, 0]),  # a draw with a full board
        ([0, 1, 2, 3, 4, 5, 6], [1, -1]),  # a diagonal of the first
        ([0, 0], [1, -1]),  # a move that is not legal loses
    ],
)
def test_ends_of_tic_tac_toe(moves: list[int], reward: list[float]) -> None:
    _, obs, paid, terminated, truncated = play(TIC_TAC_TOE, moves)
    np.testing.assert_array_equal(paid, reward)
    assert terminated and not truncated and not np.asarray(obs["turn"]).any()
    np.testing.assert_array_equal(obs["legal"], [[True] + [False] * 8] * 2)


@pytest.mark.parametrize(
    "moves, reward",
    [
        ([0, 1, 0, 1, 0, 1, 0], [1, -1]),  # a column
        ([6, 0, 6, 1, 5, 2, 5, 3], [-1, 1]),  # a row
        ([0, 1, 1, 2, 2, 3, 2, 3, 3, 6, 3], [1, -1]),  # a rising diagonal
        ([0] * 7, [-1, 1]),  # the seventh stone in a column of six
    ],
)
def test_ends_of_connect_four(moves: list[int], reward: list[float]) -> None:
    _, _, paid, terminated, _ = play(CONNECT_FOUR, moves)
    np.testing.assert_array_equal(paid, reward)
    assert terminated


def test_numbers_of_winning_lines() -> None:
    assert winning_lines(3, 3, 3).sum(1).tolist() == [3] * 8
    assert winning_lines(6, 7, 4).sum(1).tolist() == [4] * 69


def test_the_first_view_of_a_stone() -> None:
    """Cells after one another, the own stone before the other's."""
    state, _ = TIC_TAC_TOE.reset(KEY)
    _, obs, reward, *_ = jitted(TIC_TAC_TOE)(state, jnp.array([2, 0]), KEY)
    np.testing.assert_array_equal(np.flatnonzero(obs["view"][0]), [4])
    np.testing.assert_array_equal(np.flatnonzero(obs["view"][1]), [5])
    np.testing.assert_array_equal(obs["legal"], [[1] + [0] * 8, [1, 1, 0, 1, 1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(obs["state"], [*np.eye(18)[4], 0, 1])
    assert not np.asarray(reward).any()


@games
def test_random_games_run_as_in_pettingzoo(module: str) -> None:
    classic = pytest.importorskip("pettingzoo.classic")
    env, game = getattr(classic, module).env(), GAMES[module]
    assert tuple(env.possible_agents) == game.spec.agents
    rng, results = np.random.default_rng(0), []
    for _ in range(60):
        env.reset()
        state, obs = game.reset(KEY)
        over: Any = False
        while not over:
            i = env.possible_agents.index(env.agent_selection)
            for player, name in enumerate(env.possible_agents):
                view = env.observe(name)["observation"].reshape(-1)
                np.testing.assert_array_equal(obs["view"][player], view)
            mask = env.observe(env.agent_selection)["action_mask"].astype(bool)
            np.testing.assert_array_equal(obs["legal"][i], mask)
            move = int(rng.choice(np.flatnonzero(mask)))
            state, obs, reward, over, _ = jitted(game)(state, jnp.full(2, move), KEY)
            env.step(move)
            np.testing.assert_array_equal(reward, [env.rewards[a] for a in env.possible_agents])
            assert bool(over) == all(env.terminations.values())
        results.append(float(reward[0]))
    assert {-1.0, 1.0} <= set(results)
