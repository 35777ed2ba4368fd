"""Positions of games with a perfect player, and the share of a policy's moves that lose nothing.

A position counts where some legal move loses something. In tic-tac-toe these are all such
positions, solved by full search; in connect four those of the file connect_four_problems.txt; in
Kuhn and Leduc poker the information states that an exact equilibrium of the other player leads to,
where a move loses nothing if it is worth as much against that equilibrium as the best one.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.programs import as_data
from parl.envs.game_tree import action_values, enumerated, is_game
from parl.envs.multi.board_games import CONNECT_FOUR, TIC_TAC_TOE, BoardGame, BoardState
from parl.envs.multi.connect_four_solver import planes_of, played, problems
from parl.envs.multi.poker import Poker
from parl.runs.evaluation import Player
from parl.runs.exploit import of_movers, strategy_program

EQUAL = 1e-6  # of values


class Problems(NamedTuple):
    """Q positions, with the legal moves that lose nothing there."""

    obs: Any  # [Q, ...] of all players
    mover: np.ndarray  # [Q] int
    good: np.ndarray  # [Q, A] bool


def problems_of(game: Any) -> Problems | None:
    """The positions of a game; None where it has no perfect player."""
    if game == CONNECT_FOUR:
        return connect_four()
    if game == TIC_TAC_TOE:
        return tic_tac_toe()
    return poker(game) if isinstance(game, Poker) and is_game(game) else None


@cache
def connect_four() -> Problems:
    """Those of the file: what keeps a win or a draw."""
    boards, good = [], []
    for moves, values in problems():
        boards.append(planes_of(*played(moves)))
        scores = np.array([".-=+".index(value) for value in values])
        good.append(scores == scores.max())
    return of_boards(CONNECT_FOUR, np.array(boards), np.array(good))


@cache
def tic_tac_toe() -> Problems:
    """All positions in which some move is worse than another."""
    game, boards, good = TIC_TAC_TOE, [], []
    lines = [frozenset(np.flatnonzero(line).tolist()) for line in game.lines]
    values: dict[Any, int] = {}

    def value(own: frozenset[int], theirs: frozenset[int]) -> int:
        """1 if the player to move wins, 0 for a draw, -1 if it loses."""
        if any(line <= theirs for line in lines):
            return -1
        free = [cell for cell in range(game.cells) if cell not in own | theirs]
        if not free:
            return 0
        if (own, theirs) not in values:
            after = {cell: -value(theirs, own | {cell}) for cell in free}
            values[own, theirs] = best = max(after.values())
            if min(after.values()) < best:
                places = np.arange(game.cells)
                boards.append([np.isin(places, list(own)), np.isin(places, list(theirs))])
                good.append([after.get(cell) == best for cell in range(game.cells)])
        return values[own, theirs]

    value(frozenset(), frozenset())
    return of_boards(game, np.array(boards), np.array(good))


def of_boards(game: BoardGame, boards: np.ndarray, good: np.ndarray) -> Problems:
    """The positions with these stones [Q, 2, C], those of the player to move first."""
    mover = boards.sum((1, 2)) % 2
    stones = np.where((mover == 0)[:, None, None], boards, boards[:, ::-1])
    over = jnp.zeros(len(mover), bool)
    states = BoardState(jnp.asarray(stones), jnp.asarray(mover, jnp.int32), over)
    obs = jax.device_get(jax.jit(jax.vmap(game.observe))(states))
    return Problems(obs, mover, good)


@lru_cache(4)
def poker(game: Poker) -> Problems:
    """The information states in which a move may lose something to an equilibrium."""
    from parl.envs.equilibrium import equilibrium  # only now: it loads SciPy's optimisers

    tree = enumerated(game)
    strategy = equilibrium(tree)
    good = np.zeros(tree.legal.shape, bool)
    for player in (0, 1):
        worth, weight, _ = action_values(tree, strategy, player, respond=True)
        own = (tree.mover == player) & (weight > EQUAL)
        best = worth[own].max(-1, keepdims=True)
        good[own] = worth[own] >= best - EQUAL * weight[own][:, None]
    asked = good.any(-1) & (good != tree.legal).any(-1)
    return Problems(jax.tree.map(lambda x: x[asked], tree.obs), tree.mover[asked], good[asked])


def lossless(players: Sequence[Player], game: Any, sample: bool = False) -> np.ndarray | None:
    """[R] the share of each player's moves that lose nothing; None without a perfect player.

    Moves are the likeliest ones; with `sample` their probabilities count.
    """
    found = problems_of(game)
    return None if found is None else np.array([share(found, one, sample) for one in players])


def share(found: Problems, player: Player, sample: bool) -> float:
    """The share of one player's moves that lose nothing. Memory is as in a first move."""
    data = as_data(player.algorithm)
    program = strategy_program(not sample, jax.tree.structure(data))
    memory = player.algorithm.memory((len(found.mover),))
    strategy, _ = program(data, player.policy, found.obs, memory)
    probs = of_movers(strategy.probs, found.mover)  # [Q, A], or [P, Q, A] of a mixture
    if strategy.weights is not None:
        probs = np.einsum("qp,pqa->qa", np.asarray(strategy.weights)[found.mover], probs)
    return float((probs * found.good).sum(-1).mean())
