"""The whole tree of a game: values, exact best responses and NashConv of strategies.

Shapes: D deals, N players, I information states, A actions, P strategies of a mixture. A strategy
[I, A] holds the probability of each action in each information state, of the player that moves
there. NashConv is the sum over players of what a best response gains (Lanctot et al. 2017,
arXiv:1711.00832, section 2); with two players exploitability is half of it. Information states are
equal views of the player to move: they must hold all that it has seen.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.errors import EnvError
from parl.envs.protocol import Game

CHUNK = 1024  # histories stepped at once
LIMIT = 1_000_000  # histories of a tree


class Level(NamedTuple):
    """The n histories of one length, after so many moves."""

    parent: np.ndarray  # [n] int, the history before the last move, in the level before
    action: np.ndarray  # [n] int, the last move
    place: np.ndarray  # [n] int, the information state of who moves; -1 where the game is over
    mover: np.ndarray  # [n] int, who moves; -1 where the game is over
    paid: np.ndarray  # [n, N] float64, rewards so far
    obs: Any = None  # [n, ...] where kept: observations of all players


class Tree(NamedTuple):
    """A game."""

    chances: np.ndarray  # [D] of the deals, which are the histories of the first level
    levels: tuple[Level, ...]
    obs: Any  # [I, ...] observations of all players, of one history of each information state
    mover: np.ndarray  # [I] int
    legal: np.ndarray  # [I, A] bool

    @property
    def size(self) -> int:
        """The number of histories."""
        return sum(len(level.parent) for level in self.levels)

    @property
    def uniform(self) -> np.ndarray:
        """The strategy that draws among the legal actions."""
        return self.legal / self.legal.sum(-1, keepdims=True)


def is_game(env: Any) -> bool:
    """Whether an environment's chance can be enumerated: players in turn, discrete actions."""
    return isinstance(env, Game) and env.spec.takes_turns


def bound_of(game: Game) -> float:
    """A bound of the number of histories, from the spec alone."""
    spec, actions = game.spec, game.spec.obs["legal"].shape[-1]
    return len(game.deals()[1]) * float(actions) ** (spec.max_steps or np.inf)


def enumerated(game: Game, keep: bool = False, limit: int = LIMIT) -> Tree:
    """The tree of a game; with `keep` the observations of all histories are kept.

    Raises EnvError where it has more than `limit` histories.
    """
    return tree_of(game, keep, limit)


@lru_cache(8)
def tree_of(game: Game, keep: bool, limit: int) -> Tree:
    """`enumerated`, once for each game."""
    deals, chances = game.deals()
    step = stepper(game)
    state, obs = jax.device_get(jax.jit(jax.vmap(game.start))(deals))
    count = len(chances)
    level = np.full(count, -1), np.full(count, -1)  # parent, action
    over, paid = np.zeros(count, bool), np.zeros((count, game.spec.num_agents or 1))
    levels, parts, found, total = [], [], 0, count
    while True:
        live = np.flatnonzero(~over)
        mover = np.full(len(over), -1)
        mover[live] = obs["turn"][live].argmax(-1)
        place, firsts = places(obs["view"][live, mover[live]], mover[live])
        of_all = np.full(len(over), -1)
        of_all[live] = found + place
        found += len(firsts)
        parts.append(jax.tree.map(lambda x, rows=live[firsts]: x[rows], obs))
        levels.append(Level(*level, of_all, mover, paid, obs if keep else None))
        if not len(live):
            break
        legal = obs["legal"][live, mover[live]]  # [live, A]
        rows, moves = np.nonzero(legal)
        total += len(rows)
        if total > limit:
            raise EnvError(
                f"{game.spec.id} has more than {limit:,} histories, {len(rows):,} after "
                f"{len(levels)} moves alone: its tree is too large to be searched."
            )
        parents = live[rows]
        state, obs, reward, over = step(state, parents, moves)
        paid = paid[parents] + reward
        level = parents, moves
    joined = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    mover = joined["turn"].argmax(-1)
    legal = joined["legal"][np.arange(len(mover)), mover]
    return Tree(np.asarray(chances, float), tuple(levels), joined, mover, legal)


def places(views: np.ndarray, mover: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the information state of each history [n], a history of each): equal views are one."""
    if not len(views):
        return np.zeros(0, int), np.zeros(0, int)
    keys = np.ascontiguousarray(np.concatenate([mover[:, None].astype(views.dtype), views], -1))
    whole = keys.view(np.dtype((np.void, keys.dtype.itemsize * keys.shape[1])))[:, 0]
    _, firsts, inverse = np.unique(whole, return_index=True, return_inverse=True)
    return inverse, firsts


def stepper(game: Game) -> Callable[..., Any]:
    """(states, rows [n], moves [n]) -> what follows from these rows, in numpy."""
    agents: Any = game.spec.num_agents

    @jax.jit
    def some(state: Any, move: jax.Array) -> Any:
        action = jnp.broadcast_to(move[:, None], (CHUNK, agents))
        key = jax.random.key(0)  # of no chance: all of it lies in the deal
        state, obs, reward, ended, cut = jax.vmap(game.step, (0, 0, None))(state, action, key)
        return state, obs, reward, ended | cut

    def step(state: Any, rows: np.ndarray, moves: np.ndarray) -> Any:
        answers = []
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            count = len(rows[part])
            padded = lambda x: np.pad(x, (0, CHUNK - len(x)))
            index, move = padded(rows[part]), padded(moves[part]).astype(np.int32)
            got = some(jax.tree.map(lambda x, index=index: x[index], state), move)
            answers.append(jax.tree.map(lambda x, count=count: np.asarray(x)[:count], got))
        return jax.tree.map(lambda *x: np.concatenate(x), *answers)

    return step


def reaches(tree: Tree, strategy: np.ndarray, counts: Callable[[np.ndarray], Any]) -> list[Any]:
    """The product of probabilities on the way to each history [n] of each level.

    `counts` says of movers [n] whose moves count; the deal counts if it says so of -1.
    """
    one = np.ones(len(tree.chances))
    reach = [np.where(counts(-one.astype(int)), tree.chances, one)]
    for before, level in zip(tree.levels, tree.levels[1:], strict=False):
        made = strategy[before.place[level.parent], level.action]
        factor = np.where(counts(before.mover[level.parent]), made, 1.0)
        reach.append(reach[-1][level.parent] * factor)
    return reach


def values(tree: Tree, strategy: np.ndarray) -> np.ndarray:
    """[N] what each player gets where all follow the strategy."""
    reach = reaches(tree, strategy, lambda mover: mover >= -1)
    ends = zip(tree.levels, reach, strict=True)
    return np.sum([((level.place < 0) * chance) @ level.paid for level, chance in ends], 0)


def action_values(
    tree: Tree, strategy: np.ndarray, player: int, respond: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """What each action of a player is worth: (values [I, A], weights [I], value of the game).

    The player goes on by a best response, or by the strategy. Values are of reaching an
    information state times its weight, the probability that chance and the others allow it; they
    are -infinity for actions that are not legal, and for other players' information states.
    """
    reach = reaches(tree, strategy, lambda mover: mover != player)
    own = tree.mover == player
    worth = np.where(tree.legal & own[:, None], 0.0, -np.inf)
    weight, after = np.zeros(len(own)), np.zeros(0)
    for depth in range(len(tree.levels) - 1, -1, -1):
        level = tree.levels[depth]
        value = np.where(level.place < 0, level.paid[:, player], 0.0)
        if depth + 1 < len(tree.levels):
            following = tree.levels[depth + 1]
            place = level.place[following.parent]
            mine = own[place]
            pairs = place[mine], following.action[mine]
            np.add.at(worth, pairs, reach[depth][following.parent[mine]] * after[mine])
            chosen = strategy[place, following.action]
            if respond:
                best = worth[place].argmax(-1) == following.action
                chosen = np.where(mine, best, chosen)
            value += np.bincount(following.parent, chosen * after, len(value))
        mine = level.mover == player
        np.add.at(weight, level.place[mine], reach[depth][mine])
        after = value
    return worth, weight, float(tree.chances @ after)


class Exploitability(NamedTuple):
    """How far a strategy is from an equilibrium."""

    nash_conv: float  # sum over players of what a best response gains
    values: np.ndarray  # [N] what each player gets where all follow the strategy
    responses: np.ndarray  # [N] what a best response gets against the others

    @property
    def exploitability(self) -> float:
        """What a best response gains on average: NashConv / 2 with two players."""
        return self.nash_conv / len(self.values)


def exploitability(tree: Tree, strategy: np.ndarray) -> Exploitability:
    """Exact best responses to a strategy [I, A]."""
    own, players = values(tree, strategy), range(tree.levels[0].paid.shape[-1])
    best = np.array([action_values(tree, strategy, i, respond=True)[2] for i in players])
    return Exploitability(float((best - own).sum()), own, best)


def mixed(tree: Tree, strategies: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The strategy [I, A] of drawing one of `strategies` [P, I, A] before the game.

    `weights` [N, P] are each player's. A strategy counts in an information state as much as its own
    moves lead there (Kuhn 1953); where none does, as before the game.
    """
    shares = np.zeros(strategies.shape[:2])
    for p, strategy in enumerate(strategies):
        for player in range(len(weights)):
            own = partial(np.equal, player)
            reach = reaches(tree, strategy, own)
            for level, chance in zip(tree.levels, reach, strict=True):
                mine = level.mover == player
                shares[p, level.place[mine]] = weights[player, p] * chance[mine]
    lost = ~(shares.sum(0) > 0)
    shares[:, lost] = weights[tree.mover[lost]].T
    return np.einsum("pi,pia->ia", shares / shares.sum(0), strategies)
