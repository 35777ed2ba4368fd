"""Tic-tac-toe and connect four: two players place one stone per turn; a line of stones wins.

Views, masks and rewards are those of PettingZoo's games. A player sees its own and the other
player's stones. The waiting player's only legal action is 0, which has no effect.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.spec import Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, Canvas, grid
from parl.envs.simulator import GameRules
from parl.envs.team import only_first, team_spec


class BoardState(struct.PyTreeNode):
    """A position."""

    stones: Array  # [2, C] bool, stones of each player by cell, row-major
    player: Array  # [] int32, the player to move
    over: Array  # [] bool


@dataclass(frozen=True)
class BoardGame:
    """A board of rows x columns; `line` stones in a row, column or diagonal win.

    With `falls` a move names a column and the stone falls to its lowest free cell; otherwise it
    names a cell. The winner gets 1 and the loser -1; a draw gives 0. An illegal move loses.
    """

    id: str
    agents: tuple[str, str]
    rows: int
    columns: int
    line: int
    falls: bool

    @property
    def cells(self) -> int:
        """C, the number of cells."""
        return self.rows * self.columns

    @cached_property
    def lines(self) -> np.ndarray:
        """[L, C] float32: the cells of every line that wins."""
        return winning_lines(self.rows, self.columns, self.line)

    @property
    def spec(self) -> EnvSpec:
        moves = Discrete(self.columns if self.falls else self.cells)
        size = 2 * self.cells
        return team_spec(
            self.id, self.agents, (size, size), (moves, moves), size + 2, turns=True,
            max_steps=self.cells, simulator=GameRules(self),
        )  # fmt: skip

    def deals(self) -> tuple[np.ndarray, np.ndarray]:
        """The only one, as there is no chance."""
        return np.zeros(1), np.ones(1)

    def reset(self, key: Array) -> tuple[BoardState, Any]:
        return self.start(None)

    def start(self, deal: Any) -> tuple[BoardState, Any]:
        start = BoardState(jnp.zeros((2, self.cells), bool), jnp.int32(0), jnp.bool_(False))
        return start, self.observe(start)

    def step(
        self, state: BoardState, action: Array, key: Array
    ) -> tuple[BoardState, Any, Array, Array, Array]:
        move, mine = action[state.player], np.arange(2) == state.player  # [2] bool
        taken = state.stones.any(0)  # [C]
        cell, foul = self.landing(taken, move)
        stones = state.stones | (mine[:, None] & (cell & ~foul))
        won = self.wins(stones[state.player])
        over = won | foul | (taken | cell).all()
        score = jnp.where(foul, -1.0, jnp.where(won, 1.0, 0.0))  # of who moved
        state = BoardState(stones, 1 - state.player, over)
        reward = jnp.where(mine, score, -score)
        return state, self.observe(state), reward, over, jnp.bool_(False)

    def landing(self, taken: Array, move: Array) -> tuple[Array, Array]:
        """(the cell [C] bool that a move fills, whether the move is illegal)."""
        if not self.falls:
            cell = np.arange(self.cells) == move
            return cell, (cell & taken).any()
        height = taken.reshape(self.rows, self.columns).sum(0)  # [columns] stones in each
        row = self.rows - 1 - height  # [columns] the lowest free one, -1 if none is
        cell = (np.arange(self.rows)[:, None] == row) & (np.arange(self.columns) == move)
        return cell.reshape(-1), ~cell.any()

    def wins(self, stones: Array) -> Array:
        """Whether one player's stones [C] hold a line: []."""
        return jnp.any(self.lines @ stones.astype(jnp.float32) >= self.line)

    def observe(self, state: BoardState) -> dict[str, Array]:
        """Views: for each cell own and other's stone; the state also holds the turn."""
        turn = (np.arange(2) == state.player) & ~state.over  # [2] bool
        planes = state.stones.astype(jnp.float32)  # [2, C]
        view = jnp.stack([planes.T.reshape(-1), planes[::-1].T.reshape(-1)])
        taken = state.stones.any(0)
        free = ~taken[: self.columns] if self.falls else ~taken  # the top row, or every cell
        legal = jnp.where(turn[:, None], free, only_first(free.shape[0]))
        state_of_all = jnp.concatenate([view[0], turn.astype(jnp.float32)])
        alive = jnp.ones(2, bool)
        return {"view": view, "alive": alive, "turn": turn, "legal": legal, "state": state_of_all}

    def state_of(self, obs: dict[str, Array]) -> BoardState:
        """The position that the mover's view shows; the inverse of `observe` for its player."""
        turn = jnp.asarray(obs["turn"])
        player = jnp.argmax(turn).astype(jnp.int32)
        own, other = jnp.asarray(obs["view"])[player].reshape(-1, 2).T > 0  # [C] each
        mine = (np.arange(2) == player)[:, None]
        return BoardState(jnp.where(mine, own, other), player, ~turn.any())

    def draw(self, state: BoardState) -> np.ndarray:
        """The board with the stones of both players; the first row is at the top."""
        canvas = Canvas(0, max(self.rows, self.columns))
        grid(canvas, self.rows, self.columns)
        for color, stones in zip(COLORS, np.asarray(state.stones), strict=False):
            for row, column in zip(*np.nonzero(stones.reshape(self.rows, -1)), strict=True):
                canvas.disc((column + 0.5, self.rows - row - 0.5), 0.4, color)
        return canvas.picture()


def winning_lines(rows: int, columns: int, length: int) -> np.ndarray:
    """[L, rows * columns] float32: 1 on the cells of each straight line of `length` cells."""
    boards = []
    for row, column in np.ndindex(rows, columns):
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            last = row + down * (length - 1), column + right * (length - 1)
            if last[0] >= rows or not 0 <= last[1] < columns:
                continue
            board, steps = np.zeros((rows, columns), np.float32), np.arange(length)
            board[row + down * steps, column + right * steps] = 1
            boards.append(board.reshape(-1))
    return np.stack(boards)


TIC_TAC_TOE = BoardGame("jax:tic_tac_toe", ("player_1", "player_2"), 3, 3, 3, falls=False)
CONNECT_FOUR = BoardGame("jax:connect_four", ("player_0", "player_1"), 6, 7, 4, falls=True)
