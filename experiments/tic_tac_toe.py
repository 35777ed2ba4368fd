"""Tic-tac-toe by self-play, then a thousand games against perfect play.

    python experiments/tic_tac_toe.py --out runs/tic_tac_toe

Trains IPPO against itself, or with --opponent pool against its own past policies, or with
--algorithm az Gumbel AlphaZero, and plays it greedily, half of the games on each seat, against a
player that draws at random from all moves which minimax finds best; where the policy searches, its
network alone, too. The last line is one JSON object. Axes: B games, C = 9 cells.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jax
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


class Alone:
    """Plays greedily with the network that guides an agent's search."""

    def __init__(self, agent: Any):
        network, weights = agent.algorithm.network, agent.get_weights()
        act = lambda obs: network.act(weights, obs, (), jax.random.key(0), False)[0]
        self.predict = jax.jit(act)


def players(path: Path) -> dict[str, Any]:
    """The agent of a run, and where that searches, its network alone."""
    agent = parl.load(path)
    if agent.algorithm.network is None:
        return {"policy": agent}
    return {"search": agent, "network": Alone(agent)}


def counts(result: np.ndarray) -> dict[str, Any]:
    """Games lost and drawn on each seat, and won."""
    seats = {"moving first": result[::2], "moving second": result[1::2]}
    count = lambda x: {name: int((x == s).sum()) for name, s in (("lost", -1), ("drawn", 0))}
    return {seat: count(x) for seat, x in seats.items()} | {"won": int((result == 1).sum())}


def main(
    out: Path = Path("runs/tic_tac_toe"),
    algorithm: str = "ippo",
    steps: int = 400_000,
    games: int = 1_000,
    seed: int = 0,
    opponent: str = "self",
) -> None:
    """Trains, unless `out` holds a run already, and plays."""
    if not (out / "result.json").exists():
        parl.train(algorithm, ENV, out, steps=steps, seed=seed, opponent=opponent)
    told = {who: counts(play(agent, games, seed)) for who, agent in players(out).items()}
    result = json.loads((out / "result.json").read_text())
    print(json.dumps({"games": games, **told, "train_wall_s": result["wall_s"]}))


if __name__ == "__main__":
    tyro.cli(main)
