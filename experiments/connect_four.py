"""Connect four by Gumbel AlphaZero, then games against chance and a tree search, and problems.

    python experiments/connect_four.py --out runs/connect_four

Trains az and plays it greedily, its search and its network alone: half of the games on each seat,
against random moves and against a search of 200 simulations that values positions by random games
and has no network; then says which share of 1,000 positions with 12 stones or more it plays
without loss, by a solver. The last line is one JSON object. Axes: B games, A = 7 columns.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import tyro

import parl
from parl.core.algorithm import Algorithm
from parl.core.types import static
from parl.envs.factory import make_factory
from parl.envs.multi import connect_four_solver as solver
from parl.envs.multi.board_games import CONNECT_FOUR, BoardState
from parl.planning.games import game_model, joint_action, mover_of, root_of, seen_by_mover
from parl.runs.evaluation import Contest, Player
from parl.runs.opponents import random_player

ENV = "jax:connect_four"
RULES: Any = CONNECT_FOUR.spec.simulator


def random_game(position: Any, key: Any) -> Any:
    """[] what the player to move at a position gets at the end of a game of random moves."""

    def step(carry: Any) -> Any:
        position, obs, key, over, _ = carry
        key, k_move = jax.random.split(key)
        legal = seen_by_mover(obs)["legal"]
        move = jax.random.categorical(k_move, jnp.where(legal, 0.0, -jnp.inf))
        position, obs, reward, over = RULES.step(position, move)
        return position, obs, key, over, reward

    obs = CONNECT_FOUR.observe(position)
    start = position, obs, key, position.over, jnp.zeros(2)
    return jax.lax.while_loop(lambda carry: ~carry[3], step, start)[4][mover_of(obs)]


class TreeSearch(Algorithm):
    """PUCT with equal prior chances, in which a random game values each new position."""

    simulations: int = static(default=200)

    def policy(self, state: Any) -> Any:
        return ()

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        k_root, k_search = jax.random.split(key)

        def valued(position: Any, key: Any) -> Any:
            keys = jax.random.split(key, len(position.player))
            return jax.vmap(random_game)(position, keys)

        def known(seen: Any) -> Any:
            return jnp.where(seen["legal"], 0.0, -1e9), jnp.zeros(seen["legal"].shape[:-1])

        root, step = root_of(RULES, known, obs), game_model(RULES, known)

        def recurrent(_: Any, key: Any, action: Any, state: Any) -> Any:
            edge, node = step(state, action, key)
            value = jnp.where(edge.discount == 0, 0.0, valued(node.state[0], key))
            told = edge._asdict() | {"prior_logits": node.logits, "value": value}
            return mctx.RecurrentFnOutput(**told), node.state

        value = valued(root.state[0], k_root)
        start: Any = mctx.RootFnOutput(prior_logits=root.logits, value=value, embedding=root.state)  # pyright: ignore[reportCallIssue]
        found: Any = mctx.muzero_policy(
            (), k_search, start, recurrent, self.simulations,  # pyright: ignore[reportArgumentType]
            invalid_actions=~seen_by_mover(obs)["legal"], dirichlet_fraction=0.0, temperature=0.0,
        )  # fmt: skip
        return joint_action(obs, found.action.astype(jnp.int32)), memory, {}


def share_won(algorithm: Algorithm, policy: Any, opponent: Player, games: int) -> dict[str, Any]:
    """Shares of games won and drawn, half of them on each seat."""
    contest = Contest(make_factory(ENV), algorithm, games, opponent)
    told = contest.summary([contest(policy, 0)]).metrics()
    return {"won": told["win_rate"], "drawn": told["draw_rate"], "games": games}


def without_loss(algorithm: Algorithm, policy: Any) -> float:
    """The share of the solver's problems in which the move keeps the best outcome."""
    lines = [line.split() for line in solver.PROBLEMS.read_text().splitlines()]
    stones, turns = [], []
    for moves, _ in lines:
        turn, planes = len(moves) % 2, solver.planes_of(*solver.played(moves))
        stones.append(planes[::-1] if turn else planes)
        turns.append(turn)
    over = np.zeros(len(lines), bool)
    positions = BoardState(np.stack(stones), np.array(turns, np.int32), over)  # pyright: ignore
    obs = jax.vmap(CONNECT_FOUR.observe)(positions)
    act = jax.jit(lambda obs: algorithm.act(policy, obs, (), jax.random.key(0), False)[0])
    action = np.asarray(act(obs))[np.arange(len(lines)), turns]
    best = [max(values, key=".-=+".index) for _, values in lines]
    kept = [values[move] == top for (_, values), move, top in zip(lines, action, best, strict=True)]
    return float(np.mean(kept))


def main(
    out: Path = Path("runs/connect_four"), steps: int = 1_000_000, games: int = 200, seed: int = 0
) -> None:
    """Trains, unless `out` holds a run already, and plays."""
    if not (out / "config.json").exists():
        parl.train("az", ENV, out, steps=steps, seed=seed)
    agent = parl.load(out)
    found: dict[str, Any] = {}
    players: Any = {"network": agent.algorithm.network, "search": agent.algorithm}
    for who, algorithm in players.items():
        weights = agent.get_weights()
        found[who] = {
            "random": share_won(algorithm, weights, random_player(CONNECT_FOUR.spec), games),
            "tree search": share_won(algorithm, weights, Player(TreeSearch(), ()), games),
            "without loss": without_loss(algorithm, weights),
        }
        print(who, json.dumps(found[who]), flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    tyro.cli(main)
