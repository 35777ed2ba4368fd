"""Tic-tac-toe by self-play, then a thousand games against perfect play.

    python experiments/tic_tac_toe.py --out runs/tic_tac_toe

Trains IPPO against itself, or with --opponent pool against its own past policies, and plays it
greedily, half of the games on each seat, against a player that draws at random from all moves which
minimax finds best. The last line is one JSON object. Axes: B games, C = 9 cells.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import parl
from parl.envs.factory import make_factory

ENV = "jax:tic_tac_toe"
LINES = ("012", "345", "678", "036", "147", "258", "048", "246")

Board = tuple[int, ...]  # [C] 1 a stone of who moves, -1 the other's, 0 free


@cache
def best_moves(board: Board) -> tuple[int, tuple[int, ...]]:
    """(1, 0 or -1 as who moves wins, draws or loses, the moves that lead there)."""
    scores = {}
    for move in (i for i, stone in enumerate(board) if not stone):
        after = (*board[:move], 1, *board[move + 1 :])
        if any(all(after[int(i)] == 1 for i in line) for line in LINES):
            scores[move] = 1
        elif 0 not in after:
            scores[move] = 0
        else:
            scores[move] = -best_moves(tuple(-stone for stone in after))[0]
    best = max(scores.values())
    return best, tuple(move for move, score in scores.items() if score == best)


def boards(view: np.ndarray) -> np.ndarray:
    """Views [B, 2 C] of own and other stones by cell as boards [B, C]."""
    own, other = np.moveaxis(view.reshape(len(view), view.shape[1] // 2, 2), -1, 0)
    return (own - other).astype(int)


def perfect(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Perfect moves [B] for views [B, 2 C], drawn from all that are."""
    return np.array([rng.choice(best_moves(tuple(b))[1]) for b in boards(view).tolist()])


def play(agent: Any, games: int, seed: int = 0) -> np.ndarray:
    """1, 0 or -1 for each game that the agent won, drew or lost: [B], half of them moving first."""
    env, rng = make_factory(ENV).vector(games, seed), np.random.default_rng(seed)
    row, seat = np.arange(games), np.arange(games) % 2
    obs, over, result = env.reset(), np.zeros(games, bool), np.zeros(games)
    while not over.all():
        action = np.array(agent.predict(obs))
        theirs = obs["turn"][row, 1 - seat]  # [B] it is the perfect player's move
        view = obs["view"][row, 1 - seat]
        action[row[theirs], 1 - seat[theirs]] = perfect(view[theirs], rng)
        new = env.step(action)
        ends = new.terminated | new.truncated
        result = np.where(ends & ~over, new.reward[row, seat], result)
        obs, over = new.obs, over | ends
    env.close()
    return result


def main(
    out: Path = Path("runs/tic_tac_toe"),
    steps: int = 400_000,
    games: int = 1_000,
    seed: int = 0,
    opponent: str = "self",
) -> None:
    """Trains, unless `out` holds a run already, and plays."""
    if not (out / "result.json").exists():
        parl.train("ippo", ENV, out, steps=steps, seed=seed, opponent=opponent)
    result = play(parl.load(out), games, seed)
    first = np.arange(games) % 2 == 0
    count = lambda x: {name: int((x == s).sum()) for name, s in (("lost", -1), ("drawn", 0))}
    wall = json.loads((out / "result.json").read_text())["wall_s"]
    print(
        json.dumps(
            {
                "games": games,
                "moving first": count(result[first]),
                "moving second": count(result[~first]),
                "won": int((result == 1).sum()),
                "train_wall_s": wall,
            }
        )
    )


if __name__ == "__main__":
    tyro.cli(main)
