"""Exact equilibria of games of two players whose rewards sum to zero.

By linear programming over realisation plans: Koller, Megiddo and von Stengel 1996,
doi:10.1006/game.1996.0051, eq. 8. Shapes: I information states, A actions, S sequences of a player:
its empty one, and each action in each of its information states.
"""

from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack

from parl.envs.game_tree import Tree


def equilibrium(tree: Tree) -> np.ndarray:
    """A strategy [I, A] of both players that no best response gains against."""
    parts: Any = [plan(tree, player) for player in (0, 1)]
    return np.where((tree.mover == 0)[:, None], *parts)


def plan(tree: Tree, player: int) -> np.ndarray:
    """The player's part [I, A] of an equilibrium; uniform where it does not move."""
    number: Any = [
        sequences(tree, each) for each in (0, 1)
    ]  # [I, A] index of each sequence, from 1
    before = [leading(tree, number[each], each) for each in (0, 1)]
    own, other = player, 1 - player
    payoff: Any = payoffs(tree, number, before, own)  # [S_own, S_other]
    flow, start = constraints(tree, number[own], before[own], own)
    theirs, _ = constraints(tree, number[other], before[other], other)
    count, free = payoff.shape[0], theirs.shape[0]
    # maximise the value q_0 of the other's first constraint, over plans x and values q
    zero = csr_array((flow.shape[0], free))
    found: Any = linprog(
        np.r_[np.zeros(count), -1.0, np.zeros(free - 1)],
        A_ub=hstack([-payoff.T, theirs.T]),
        b_ub=np.zeros(payoff.shape[1]),
        A_eq=hstack([flow, zero]),
        b_eq=start,
        bounds=[(0, None)] * count + [(None, None)] * free,
    )
    weight = np.where(number[own] > 0, found.x[number[own]], 0.0).clip(0)
    total = weight.sum(-1, keepdims=True)
    return np.where(total > 1e-12, weight / np.maximum(total, 1e-300), tree.uniform)


def sequences(tree: Tree, player: int) -> np.ndarray:
    """[I, A] int: the number of each of a player's sequences from 1, 0 where it has none."""
    mine = tree.legal & (tree.mover == player)[:, None]
    return np.where(mine, np.cumsum(mine).reshape(mine.shape), 0)


def leading(tree: Tree, number: np.ndarray, player: int) -> list[np.ndarray]:
    """For each level [n], the player's last sequence on the way to each history."""
    last = [np.zeros(len(tree.chances), int)]
    for before, level in zip(tree.levels, tree.levels[1:], strict=False):
        moved = before.mover[level.parent] == player
        made = number[before.place[level.parent], level.action]
        last.append(np.where(moved, made, last[-1][level.parent]))
    return last


def payoffs(
    tree: Tree, number: list[np.ndarray], before: list[list[np.ndarray]], player: int
) -> csr_array:
    """[S_own, S_other] what the player gets, times the probability of chance, of two sequences."""
    chance, rows, columns, paid = tree.chances, [], [], []
    for depth, level in enumerate(tree.levels):
        if depth:
            chance = chance[level.parent]
        over = level.place < 0
        rows.append(before[player][depth][over])
        columns.append(before[1 - player][depth][over])
        paid.append((chance * level.paid[:, player])[over])
    shape = int(number[player].max()) + 1, int(number[1 - player].max()) + 1
    where = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.concatenate(paid), where), shape=shape)


def constraints(
    tree: Tree, number: np.ndarray, before: list[np.ndarray], player: int
) -> tuple[Any, np.ndarray]:
    """(E, e) of plans x with E x = e: 1 in all, and as much out of a state as leads there."""
    into = np.zeros(len(tree.mover), int)
    for level, last in zip(tree.levels, before, strict=True):
        mine = level.mover == player
        into[level.place[mine]] = last[mine]
    states = np.flatnonzero(tree.mover == player)
    matrix = np.zeros((len(states) + 1, int(number.max()) + 1))
    matrix[0, 0] = 1.0
    for row, state in enumerate(states, 1):
        matrix[row, number[state][number[state] > 0]] = 1.0
        matrix[row, into[state]] -= 1.0
    return csr_array(matrix), np.eye(len(matrix))[0]
