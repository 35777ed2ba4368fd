"""Greedy evaluation on environments of its own, for every execution.

Each of `episodes` episodes counts once and whichever ends first does not count more: environment i
of B plays its share of them, so that short episodes are not favoured. In games of several sides a
policy may be played against an opponent.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parl import ops
from parl.algorithms.match import Match, MatchPolicy, sides_of
from parl.core.algorithm import Algorithm
from parl.core.seeding import EVALUATION, env_seed
from parl.core.types import Array
from parl.envs.factory import EnvFactory
from parl.envs.protocol import JaxEnv

MAX_ENVS = 10  # stepped together on the host
MAX_STEPS = 100_000  # of an episode whose environment knows no time limit


class Evaluation(NamedTuple):
    """Returns of whole episodes under the greedy policy; several agents' are summed up.

    Against an opponent they are those of the policy's own side.
    """

    returns: np.ndarray  # [episodes], or [K, episodes] for K seeds
    agents: np.ndarray | None = None  # [..., episodes, N] of each of several agents
    sides: np.ndarray | None = None  # [..., W] mean returns of the policy on each side it plays
    scores: np.ndarray | None = None  # [..., episodes] 1 where a game was won, 1/2 where drawn

    @classmethod
    def of(cls, games: list[np.ndarray]) -> "Evaluation":
        """The evaluation of one seed's games [episodes, *agent_shape], or of several seeds'."""
        returns = np.stack(games) if len(games) > 1 else games[0]
        if games[0].ndim == 1:
            return cls(returns)
        return cls(returns.sum(-1), returns)

    @property
    def mean(self) -> Any:
        """Mean return: a float, or a list of one per seed."""
        return self.returns.mean(-1).tolist()

    @property
    def std(self) -> Any:
        """Standard deviation over episodes: a float, or a list of one per seed."""
        return self.returns.std(-1).tolist()

    def metrics(self) -> dict[str, Any]:
        """What there is to tell by name: a number each, or a list of one per seed."""
        known = {"return_mean": self.mean, "return_std": self.std}
        if self.scores is not None:
            known["win_rate"] = (self.scores == 1.0).mean(-1).tolist()
            known["draw_rate"] = (self.scores == 0.5).mean(-1).tolist()
        return known


class Evaluator:
    """Plays greedy episodes; made once for a run, so that its programs compile once."""

    def __init__(self, factory: EnvFactory, algorithm: Algorithm, episodes: int):
        self.factory, self.algorithm, self.episodes = factory, algorithm, episodes
        self.fused = None
        if factory.jax is not None:
            self.fused = jax.jit(partial(play_fused, factory.jax, algorithm, episodes))
        self.greedy = jax.jit(partial(greedy_action, algorithm))

    def __call__(self, policy: Any, seed: int, when: int = 0) -> np.ndarray:
        """Returns [episodes, *agent_shape] of one policy.

        The same seed and time give the same episodes.
        """
        number = env_seed(seed, EVALUATION, when)
        if self.fused is not None:
            return np.asarray(self.fused(policy, jax.random.key(number)))
        return self.play_host(policy, number)

    def play_host(self, policy: Any, seed: int) -> np.ndarray:
        """Returns [episodes, *agent_shape] from a numpy vector environment."""
        num_envs = min(self.episodes, MAX_ENVS)
        share = np.full(num_envs, self.episodes // num_envs)
        share[: self.episodes % num_envs] += 1
        env = self.factory.vector(num_envs, seed)
        obs, first = env.reset(), np.ones(num_envs, bool)
        memory, key = self.algorithm.memory((num_envs,)), jax.random.key(seed)
        total = np.zeros((num_envs, *env.spec.agent_shape))
        played = [[] for _ in range(num_envs)]
        time = 0
        while any(len(games) < n for games, n in zip(played, share, strict=True)):
            action, memory = self.greedy(policy, obs, first, memory, key, time)
            new = env.step(np.asarray(action))
            total, time = total + new.reward, time + 1
            obs, first = new.obs, new.terminated | new.truncated
            for i in np.flatnonzero(first):
                played[i].append(total[i].copy())
                total[i] = 0.0
        env.close()
        return np.array([x for games, n in zip(played, share, strict=True) for x in games[:n]])

    def summary(self, games: list[np.ndarray]) -> Evaluation:
        """The evaluation of what each seed's policy played."""
        return Evaluation.of(games)


class Player(NamedTuple):
    """Who plays a side of a game: an algorithm that acts, and its policy."""

    algorithm: Algorithm
    policy: Any


class Contest:
    """Plays a policy on every side in turn, an opponent on all others; used like an Evaluator.

    `samples` says whether the policy and the opponent sample their actions; as it stands, only the
    opponent does, so that games differ. With `only_first` the policy is always the first side.
    """

    def __init__(
        self,
        factory: EnvFactory,
        algorithm: Algorithm,
        episodes: int,
        opponent: Player,
        samples: tuple[bool, bool] = (False, True),
        only_first: bool = False,
    ):
        self.opponent, self.has_winner = opponent, factory.spec.takes_turns
        self.sides = np.array(sides_of(factory.spec))  # [N]
        self.count = int(self.sides.max()) + 1  # S
        self.played = 1 if only_first else self.count  # W, sides that the policy plays
        share = max(episodes // self.played, 1)
        self.episodes = share * self.played
        match = Match(algorithm, opponent.algorithm, sides_of(factory.spec), samples)
        self.evaluator = Evaluator(factory, match, share)

    def __call__(self, policy: Any, seed: int, when: int = 0, opponent: Any = None) -> np.ndarray:
        """Returns [W, episodes / W, N] of all agents with the policy on side w.

        `opponent` is another policy in place of the opponent's own.
        """
        other = self.opponent.policy if opponent is None else opponent
        play = lambda side: self.evaluator(MatchPolicy(policy, other, np.int32(side)), seed, when)
        return np.stack([play(side) for side in range(self.played)])

    def summary(self, games: list[np.ndarray]) -> Evaluation:
        """The evaluation of what each seed's policy played, with scores in games of turns."""
        played = np.stack(games) if len(games) > 1 else games[0]  # [..., W, E, N]
        totals = np.stack([played[..., self.sides == s].sum(-1) for s in range(self.count)], -1)
        own = np.stack([totals[..., w, :, w] for w in range(self.played)], -2)
        flat = lambda x: x.reshape(*x.shape[:-2], -1)
        scores = flat(scores_of(own, totals)) if self.has_winner else None
        return Evaluation(flat(own), None, own.mean(-1), scores)


def scores_of(own: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """[..., W, E] 1 where the return of a game is above all others', 1/2 where level with the best.

    own [..., W, E] are the returns of side w in the games [w], totals [..., W, E, S] of all sides.
    """
    is_own = np.eye(*totals.shape[-3::2], dtype=bool)[:, None]  # [W, 1, S]
    best = np.where(is_own, -np.inf, totals).max(-1)
    return np.where(own > best, 1.0, np.where(own == best, 0.5, 0.0))


def greedy_action(
    algorithm: Algorithm, policy: Any, obs: Any, first: Any, memory: Any, key: Array, time: Any
) -> tuple[Any, Any]:
    """Greedy actions [B, ...] and the next memory."""
    memory = ops.where_first(first, algorithm.memory(first.shape), memory)
    key = jax.random.fold_in(key, time)
    action, memory, _ = algorithm.act(policy, obs, memory, key, explore=False)
    return action, memory


class Game(NamedTuple):
    """Episodes under way, each in an environment of its own."""

    env: Any  # [B, ...]
    obs: Any  # [B, *O]
    memory: Any  # [B, ...]
    returns: Array  # [B, *agent_shape]
    over: Array  # [B] bool
    time: Array  # []


def play_fused(env: JaxEnv, algorithm: Algorithm, episodes: int, policy: Any, key: Array) -> Array:
    """Returns [episodes, *agent_shape] of a pure JAX environment, all episodes side by side."""
    k_reset, k_act, k_step = jax.random.split(key, 3)
    state, obs = jax.vmap(env.reset)(jax.random.split(k_reset, episodes))
    over = jnp.zeros(episodes, bool)
    limit = env.spec.max_steps or MAX_STEPS

    def step(game: Game) -> Game:
        action, memory = greedy_action(
            algorithm,
            policy,
            game.obs,
            game.time == jnp.zeros(episodes),
            game.memory,
            k_act,
            game.time,
        )
        keys = jax.random.split(jax.random.fold_in(k_step, game.time), episodes)
        state, obs, reward, terminated, truncated = jax.vmap(env.step)(game.env, action, keys)
        returns = game.returns + jnp.where(ops.expand_like(game.over, reward), 0.0, reward)
        over = game.over | terminated | truncated
        return Game(state, obs, memory, returns, over, game.time + 1)

    going = lambda game: ~game.over.all() & (game.time < limit)
    returns = jnp.zeros((episodes, *env.spec.agent_shape))
    start = Game(state, obs, algorithm.memory((episodes,)), returns, over, jnp.int32(0))
    return jax.lax.while_loop(going, step, start).returns
