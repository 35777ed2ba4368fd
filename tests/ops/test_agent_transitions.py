"""What agents that die, are cut or wait learn from: worked numbers. Axes [T, B = 1, N]."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow

from parl import ops
from parl.core.types import Step

GAMMA = 0.5


def steps_of(
    alive: Any, next_alive: Any, reward: Any, last: Any = (), dead: Any = (), turn: Any = None
) -> Step:
    """Steps of rows [T, N]; the episode ends at the steps `last`, terminated at those `dead`."""
    rows = lambda x, dtype: np.array(x, dtype)[:, None]
    time = np.arange(len(alive))[:, None]
    obs, next_obs = {"alive": rows(alive, bool)}, {"alive": rows(next_alive, bool)}
    if turn is not None:
        obs["turn"], next_obs["turn"] = rows(turn[:-1], bool), rows(turn[1:], bool)
    end, discount = np.isin(time, last), 1.0 - np.isin(time, dead).astype(np.float32)
    first = np.concatenate([np.ones((1, 1), bool), end[:-1]])
    return Step(obs, time, rows(reward, np.float32), discount, next_obs, first, end, {})


def own(steps: Step, value: float = 0.0, next_value: Any = 7.0, lambda_: float = 1.0) -> Any:
    full = lambda x: jnp.broadcast_to(jnp.asarray(x, jnp.float32), steps.reward.shape)
    return ops.own_transitions(steps, full(value), full(next_value), GAMMA, lambda_)


def member(steps: Step, value: float = 0.0, next_value: Any = 7.0, lambda_: float = 1.0) -> Any:
    full = lambda x: jnp.broadcast_to(jnp.asarray(x, jnp.float32), steps.reward.shape)
    return ops.member_transitions(steps, full(value), full(next_value), GAMMA, lambda_)


def returns(moves: Any) -> np.ndarray:
    """[T, N]."""
    given = moves.reward, moves.discount, moves.last, moves.next_value, moves.lambda_
    return np.asarray(ops.lambda_returns(*given))[:, 0]


def test_who_dies_has_no_discount_and_who_is_cut_has_one() -> None:
    """a leaves with the second of four steps; with it ends its trace, but not what it is worth."""
    here, gone = [1, 1], [0, 1]
    alive, reward = [here, here, gone, gone], [[1, 1], [2, 1], [0, 1], [0, 1]]
    died = own(steps_of(alive, [here, gone, gone, gone], reward, last=[3]))
    cut = own(steps_of(alive, [here, here, gone, gone], reward, last=[3]))
    np.testing.assert_allclose(died.discount[:2, 0, 0], [0.5, 0.0])
    np.testing.assert_allclose(cut.discount[:2, 0, 0], [0.5, 0.5])
    np.testing.assert_allclose(returns(died)[:2, 0], [1 + 0.5 * 2, 2])
    np.testing.assert_allclose(returns(cut)[:2, 0], [1 + 0.5 * (2 + 0.5 * 7), 2 + 0.5 * 7])
    for moves in (died, cut):
        np.testing.assert_allclose(
            returns(moves)[0, 1], 1 + 0.5 * (1 + 0.5 * (1 + 0.5 * (1 + 3.5)))
        )
        np.testing.assert_array_equal(moves.active[:, 0, 0], [True, True, False, False])


@pytest.mark.parametrize("when", [0, 3])
def test_a_death_costs_a_team_nothing_but_what_it_brings(when: int) -> None:
    """Both are paid 1 in a step while both live, then b alone: 2 + ... for whoever took part."""
    alive = [[t <= when, 1] for t in range(6)]
    next_alive = [[t < when, 1] for t in range(6)]
    reward = [[t <= when, 1] for t in range(6)]
    moves = member(steps_of(alive, next_alive, reward, last=[5], dead=[5]))
    paid = np.array([2.0 if t <= when else 1.0 for t in range(6)])
    expected = [(paid[t:] * GAMMA ** np.arange(6 - t)).sum() for t in range(6)]
    np.testing.assert_allclose(returns(moves)[:, 1], expected, rtol=1e-6)
    np.testing.assert_allclose(returns(moves)[: when + 1, 0], expected[: when + 1], rtol=1e-6)
    np.testing.assert_array_equal(moves.active[:, 0], alive)


def test_the_value_of_a_team_behind_a_death_is_that_of_who_is_left() -> None:
    """One-step returns: 3 + 8 / 2 for the one that died, too; its own value of 100 is not asked."""
    steps = steps_of([[1, 1, 1]], [[0, 1, 1]], [[1, 2, 0]])
    moves = member(steps, next_value=np.array([100.0, 6.0, 10.0]), lambda_=0.0)
    np.testing.assert_allclose(returns(moves)[0], [3 + 4, 3 + 3, 3 + 5])


def test_a_team_of_which_one_is_cut() -> None:
    """a's last view is worth 7; the return of b goes on with what is really paid."""
    here, gone = [1, 1], [0, 1]
    steps = steps_of([here, gone], [here, gone], [[1, 1], [0, 1]], last=[1], dead=[1])
    np.testing.assert_allclose(returns(member(steps))[0], [2 + 0.5 * 7, 2 + 0.5 * 1])


def test_a_team_that_nobody_is_left_of_is_at_its_end() -> None:
    """The game goes on, as it does for the other side in self-play."""
    moves = member(steps_of([[1, 1], [0, 0]], [[0, 0], [0, 0]], [[1, 2], [9, 9]]))
    np.testing.assert_allclose(returns(moves)[0], [3, 3])


def test_a_team_in_turns_whose_waiting_member_dies() -> None:
    """x moves, y moves, x dies; the death ends x's wait: 1 + 2, then the team of y, who moves."""
    turn = [[1, 0], [0, 1], [0, 1], [0, 1]]
    steps = steps_of(
        [[1, 1], [1, 1], [0, 1]], [[1, 1], [0, 1], [0, 1]], [[1, 0], [0, 2], [0, 4]], turn=turn
    )
    moves = member(steps, lambda_=0.0)
    np.testing.assert_array_equal(moves.active[:, 0], [[True, False], [False, True], [False, True]])
    np.testing.assert_allclose(moves.reward[0, 0, 0], 3)
    np.testing.assert_allclose(returns(moves)[0, 0], 3 + 0.5 * 7)
    whole = member(steps)
    np.testing.assert_allclose(returns(whole)[0, 0], 3 + 0.5 * (4 + 0.5 * 7))


ALIVE = [[1, 1]] * 4
TURN = [[1, 0], [0, 1], [1, 0], [0, 1]]
PAID = [[1, 10], [2, 20], [3, 30], [4, 40]]


@pytest.mark.parametrize("nobody", [True, False])
def test_a_game_by_turns_that_is_cut_teaches_its_end(nobody: bool) -> None:
    """The last moves of both are followed by a value, whoever has the turn at the cut."""
    steps = steps_of(ALIVE, ALIVE, PAID, last=[3], turn=[*TURN, [0, 0] if nobody else [1, 0]])
    moves = own(steps)
    np.testing.assert_array_equal(moves.active[:, 0], np.array(TURN, bool))
    np.testing.assert_allclose(moves.reward[[2, 3], 0, [0, 1]], [3 + 4, 40])
    np.testing.assert_allclose(moves.discount[[2, 3], 0, [0, 1]], [0.5, 0.5])
    np.testing.assert_allclose(moves.next_value[[2, 3], 0, [0, 1]], [7, 7])
    np.testing.assert_allclose(returns(moves)[0, 0], 1 + 2 + 0.5 * (7 + 0.5 * 7))
    team = member(steps, next_value=np.array([6.0, 8.0]))
    worth = 7 if nobody else 6  # the mean of all, or the mover's
    np.testing.assert_allclose(team.next_value[3, 0, 1], worth)
    np.testing.assert_allclose(team.reward[3, 0], [0, 44])


def test_a_rollout_that_ends_between_two_moves_drops_the_last() -> None:
    moves = own(steps_of(ALIVE, ALIVE, PAID, turn=[*TURN, [1, 0]]))
    np.testing.assert_array_equal(moves.active[:, 0], [[1, 0], [0, 1], [1, 0], [0, 0]])


@pytest.mark.parametrize("players", [4, slow(6)])
def test_more_players_than_steps_of_a_rollout(players: int) -> None:
    """No player moves twice: each last move is worth what came since, and its view at the end."""
    turn = [[t % players == i for i in range(players)] for t in range(5)]
    reward = [[t + 10 * i for i in range(players)] for t in range(4)]
    there = [[1] * players] * 4
    moves = own(steps_of(there, there, reward, turn=turn))
    np.testing.assert_array_equal(moves.active[:, 0], turn[:4])
    for i in range(4):
        np.testing.assert_allclose(moves.reward[i, 0, i], sum(t + 10 * i for t in range(i, 4)))
        np.testing.assert_allclose(returns(moves)[i, i], moves.reward[i, 0, i] + 0.5 * 7)


def test_where_next_obs_is_not_the_obs_to_come() -> None:
    here, gone = [1, 1], [0, 1]
    alive, after = [here, here, gone, here], [here, here, gone, here]
    steps = steps_of(alive, after, np.zeros((4, 2)), last=[2], dead=[2])
    np.testing.assert_array_equal(ops.agents_cut(steps)[:, 0], [[0, 0], [1, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(ops.cut(steps)[:, 0], [False, True, False, False])
    plain = steps._replace(obs=np.zeros((4, 1, 2)), discount=np.ones((4, 1), np.float32))
    np.testing.assert_array_equal(ops.cut(plain), plain.last)


def test_an_entry_alive_of_a_single_agent_is_no_mask() -> None:
    assert ops.active_agents({"alive": jnp.zeros((3,), jnp.int32), "x": jnp.ones(3)}) is None
    assert ops.active_agents({"alive": np.zeros((3, 2), np.float32)}) is None
