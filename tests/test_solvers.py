"""Perfect play: connect four by alpha-beta, tic-tac-toe by full search, poker by equilibria."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.algorithms.wrappers.match import Scripted
from parl.envs.equilibrium import equilibrium
from parl.envs.game_tree import enumerated, exploitability
from parl.envs.multi.board_games import CONNECT_FOUR, TIC_TAC_TOE
from parl.envs.multi.connect_four_solver import (
    Solver,
    boards_of,
    drawn_problems,
    has_line,
    move_values,
    planes_of,
    played,
    problems,
)
from parl.envs.multi.poker import KUHN, LEDUC, Poker
from parl.runs.evaluation import Player
from parl.runs.opponents import random_player
from parl.runs.solvers import Problems, lossless, problems_of, tic_tac_toe


def plain_value(own: int, taken: int) -> int:
    """By plain search."""
    best = -1
    for column in range(7):
        bits = [1 << 7 * column + row for row in range(6)]
        cell = next((bit for bit in bits if not taken & bit), None)
        if cell is None:
            continue
        if has_line(own | cell):
            return 1
        full = (taken | cell).bit_count() == 42
        best = max(best, 0 if full else -plain_value(own ^ taken, taken | cell))
    return best


def test_values_are_those_of_a_plain_search() -> None:
    """In the problems with most stones."""
    late = sorted(problems(), key=lambda problem: -len(problem[0]))[:2]
    for moves, values in late:
        own, taken = played(moves)
        for column, value in enumerate(move_values(own, taken, Solver())):
            if value is None:
                assert values[column] == "."
                continue
            after = played(moves + str(column + 1))
            full = after[1].bit_count() == 42
            won = has_line(after[0] ^ after[1])
            assert value == (1 if won else 0 if full else -plain_value(*after))
            assert "-=+"[value + 1] == values[column]


def test_a_threat_is_met_and_a_fork_is_won() -> None:
    own, taken = played("1122")  # two in the row of both
    assert own.bit_count() == 2 and taken.bit_count() == 4
    with pytest.raises(ValueError, match="column 1 of '1111111' is full"):
        played("1111111")
    assert Solver().value(*played("12345671234567" + "122133")) in (-1, 0, 1)


def test_the_problems_are_what_they_say() -> None:
    found = problems()
    assert len(found) == len({moves for moves, _ in found}) == 1000
    for moves, values in found:
        own, taken = played(moves)
        assert 12 <= taken.bit_count() == len(moves) <= 30
        assert not has_line(own) and not has_line(own ^ taken)
        assert len(set(values) - {"."}) > 1 and len(values) == 7
        np.testing.assert_array_equal(boards_of(planes_of(own, taken)), (own, taken))
    assert list(drawn_problems(3, seed=0, limit=5_000)) == found[:3]


def test_planes_are_those_of_the_game() -> None:
    state, obs = CONNECT_FOUR.start(None)
    for move in "4433521":
        answer = CONNECT_FOUR.step(state, jnp.full(2, int(move) - 1), jax.random.key(0))
        state, obs = answer[:2]
    mover = int(np.argmax(obs["turn"]))
    stones = np.asarray(obs["view"][mover]).reshape(42, 2).T > 0
    np.testing.assert_array_equal(planes_of(*played("4433521")), stones)
    found = problems_of(CONNECT_FOUR)
    assert found is not None and (found.good.any(-1) & (found.good != found.obs["legal"][
        np.arange(len(found.mover)), found.mover]).any(-1)).all()  # fmt: skip


def test_tic_tac_toes_table() -> None:
    """A corner opening is only met in the centre."""
    found = tic_tac_toe()
    views = found.obs["view"][np.arange(len(found.mover)), found.mover].reshape(-1, 9, 2)
    corner = np.zeros((9, 2))
    corner[0, 1] = 1
    (place,) = np.flatnonzero((views == corner).all((1, 2)))
    np.testing.assert_array_equal(np.flatnonzero(found.good[place]), [4])
    legal = found.obs["legal"][np.arange(len(found.mover)), found.mover]
    assert not (found.good & ~legal).any() and (found.good != legal).any(-1).all()
    assert not (views == 0).all((1, 2)).any()  # from the empty board no move loses


@pytest.mark.parametrize("game, value", [(KUHN, -1 / 18), (LEDUC, -0.08560642)])
def test_exact_equilibria(game: Poker, value: float) -> None:
    tree = enumerated(game)
    found = exploitability(tree, equilibrium(tree))
    assert found.nash_conv == pytest.approx(0, abs=1e-9)
    assert found.values[0] == pytest.approx(value, abs=1e-6)
    exact: Any = problems_of(game)
    assert len(exact.mover) > 4 and exact.good.any(-1).all()


def knows(found: Problems) -> Player:
    """A player that looks its moves up."""
    views = jnp.asarray(found.obs["view"][np.arange(len(found.mover)), found.mover])
    best = jnp.asarray(found.good.argmax(-1))

    def move(obs: Any, key: Any) -> Any:
        equal = (obs["view"][:, :, None] == views).all(-1)  # [B, N, Q]
        return best[equal.argmax(-1)].astype(jnp.int32)

    return Player(Scripted(move), ())


@pytest.mark.parametrize("game", [KUHN, TIC_TAC_TOE])
def test_shares_of_moves_that_lose_nothing(game: Any) -> None:
    found: Any = problems_of(game)
    uniform = random_player(game.spec)
    first = Player(Scripted(lambda obs, key: obs["legal"].argmax(-1).astype("int32")), ())
    shares = lossless([knows(found), uniform, first], game, sample=True)
    legal = found.obs["legal"][np.arange(len(found.mover)), found.mover]
    assert shares is not None and shares[0] == 1
    assert shares[1] == pytest.approx((found.good.sum(-1) / legal.sum(-1)).mean(), rel=1e-5)
    assert shares[2] == pytest.approx(found.good[np.arange(len(legal)), legal.argmax(-1)].mean())
    assert lossless([uniform], None) is None
