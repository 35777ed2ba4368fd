"""Greedy evaluation in separate environments, for every execution.

Each environment plays a fixed share of the episodes, so that short episodes are not
over-represented. In games with several sides a policy may play against an opponent.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parl import ops
from parl.algorithms.wrappers.match import Match, MatchPolicy, sides_of
from parl.core.algorithm import Algorithm
from parl.core.seeding import EVALUATION, env_seed
from parl.envs.factory import EnvFactory
from parl.envs.info import mean_told
from parl.envs.protocol import VectorEnv
from parl.runs.episodes import MAX_ENVS, RULES, FusedPlayer, Games, HostPlayer, Rules

OF_NETWORK = ("return_mean", "return_std", "win_rate", "draw_rate")  # metrics of it alone


class Evaluation(NamedTuple):
    """Complete episodes of a policy; returns are summed over agents.

    Against an opponent they are the returns of the policy's own side.
    """

    returns: np.ndarray  # [episodes], or [K, episodes] for K seeds
    agents: np.ndarray | None = None  # [..., episodes, N] of each of several agents
    sides: np.ndarray | None = None  # [..., W] mean returns of the policy on each side it plays
    scores: np.ndarray | None = None  # [..., episodes] 1 where a game was won, 1/2 where drawn
    lengths: np.ndarray | None = None  # [..., episodes] steps
    cut: np.ndarray | None = None  # [..., episodes] bool: not ended by the environment
    infos: dict[str, np.ndarray] = {}  # noqa: RUF012  [..., episodes] NaN where nothing was told
    network: Any = None  # the Evaluation of the network alone, where the policy searches
    exploitability: np.ndarray | None = None  # [...] NashConv / N of N players, in small games

    @property
    def mean(self) -> Any:
        """Mean return: a float, or a list of one per seed."""
        return self.returns.mean(-1).tolist()

    @property
    def std(self) -> Any:
        """Standard deviation over episodes: a float, or a list of one per seed."""
        return self.returns.std(-1).tolist()

    def metrics(self) -> dict[str, Any]:
        """All metrics by name: a number each, or a list of one per seed."""
        known: dict[str, Any] = {"return_mean": self.mean, "return_std": self.std}
        if self.scores is not None:
            known["win_rate"] = (self.scores == 1.0).mean(-1).tolist()
            known["draw_rate"] = (self.scores == 0.5).mean(-1).tolist()
        if self.lengths is not None and self.cut is not None:
            known["length_mean"] = self.lengths.mean(-1).tolist()
            known["cut_episodes"] = self.cut.sum(-1).tolist()
        if self.exploitability is not None:
            known["exploitability"] = self.exploitability.tolist()
        for name, values in self.infos.items():
            told = ~np.isnan(values)
            total = np.where(told, values, 0.0).sum(-1)
            known[f"info/{name}"] = mean_told(total, told.sum(-1))
        if self.network is not None:
            alone = self.network.metrics()
            known |= {f"network/{name}": alone[name] for name in OF_NETWORK if name in alone}
        return known

    def cut_line(self, env: str) -> str:
        """A sentence if episodes were cut, else empty."""
        if self.cut is None or self.lengths is None or not self.cut.any():
            return ""
        steps = self.lengths[self.cut].max()
        return (
            f"{self.cut.sum()} of {self.cut.size} evaluation episodes were cut after {steps:,} "
            f"steps, where {env} had not ended them; --eval-max-steps sets another limit."
        )


def joined(parts: list[Games]) -> Games:
    """Games stacked along a new leading axis."""
    infos = {name: np.stack([part.infos[name] for part in parts]) for name in parts[0].infos}
    returns, lengths, cut = (
        np.stack(part) for part in zip(*(part[:3] for part in parts), strict=True)
    )
    return Games(returns, lengths, cut, infos)


def of_seeds(games: list[Games]) -> Games:
    """The games of all seeds, with an axis of seeds if there are several."""
    return joined(games) if len(games) > 1 else games[0]


class Evaluator:
    """Plays up to `episodes` episodes; created once per run so that programs compile once."""

    def __init__(
        self, factory: EnvFactory, algorithm: Algorithm, episodes: int, rules: Rules = RULES
    ):
        self.factory, self.episodes, self.rules = factory, episodes, rules
        self.host, self.fused = HostPlayer(algorithm, rules), None
        if factory.jax is not None:
            self.fused = FusedPlayer(factory.jax, algorithm, episodes, rules)

    def __call__(
        self,
        policy: Any,
        seed: int,
        when: int = 0,
        episodes: int | None = None,
        lent: VectorEnv | None = None,
    ) -> Games:
        """Plays the games of one policy; `episodes` may be fewer than `self.episodes`.

        The same seed and `when` give the same episodes, except in a lent environment. Raises
        Stopped if `rules.stopped` becomes true.
        """
        number, count = env_seed(seed, EVALUATION, when), episodes or self.episodes
        if lent is not None:
            return self.host(lent, policy, count, jax.random.key(number))
        if self.fused is not None:
            return self.fused(policy, count, jax.random.key(number))
        return self.play_host(policy, number, count)

    def play_host(self, policy: Any, seed: int, episodes: int | None = None) -> Games:
        """The games of one policy in a numpy vector environment."""
        count = episodes or self.episodes
        env = self.factory.vector(min(count, MAX_ENVS), seed, self.rules.first)
        try:
            return self.host(env, policy, count, jax.random.key(seed))
        finally:
            env.close()

    def summary(self, games: list[Games]) -> "Evaluation":
        """The evaluation of the games of each seed's policy."""
        all_of = of_seeds(games)
        told = {"lengths": all_of.lengths, "cut": all_of.cut, "infos": all_of.infos}
        if games[0].returns.ndim == 1:
            return Evaluation(all_of.returns, **told)
        return Evaluation(all_of.returns.sum(-1), all_of.returns, **told)


class Player(NamedTuple):
    """A player: an algorithm that acts, and its policy."""

    algorithm: Algorithm
    policy: Any


class Contest:
    """Plays a policy on every side in turn, an opponent on all others; used like an Evaluator.

    `samples` says whether the policy and the opponent sample their actions. By default only the
    opponent does, so that games differ. With `only_first` the policy always plays the first side.
    """

    def __init__(
        self,
        factory: EnvFactory,
        algorithm: Algorithm,
        episodes: int,
        opponent: Player,
        samples: tuple[bool, bool] = (False, True),
        only_first: bool = False,
        rules: Rules = RULES,
    ):
        self.opponent, self.has_winner = opponent, factory.spec.takes_turns
        self.sides = np.array(sides_of(factory.spec))  # [N]
        self.count = int(self.sides.max()) + 1  # S
        self.played = 1 if only_first else self.count  # W, sides that the policy plays
        self.episodes = self.share(episodes) * self.played
        match = Match(algorithm, opponent.algorithm, sides_of(factory.spec), samples)
        self.evaluator = Evaluator(factory, match, self.share(episodes), rules)

    def share(self, episodes: int) -> int:
        """Episodes that are played on each side."""
        return max(episodes // self.played, 1)

    def __call__(
        self,
        policy: Any,
        seed: int,
        when: int = 0,
        episodes: int | None = None,
        lent: VectorEnv | None = None,
        opponent: Any = None,
    ) -> Games:
        """Games [W, episodes / W] with returns [W, episodes / W, N], the policy on side w.

        `opponent` is another policy for the opponent's algorithm.
        """
        other = self.opponent.policy if opponent is None else opponent
        share = None if episodes is None else self.share(episodes)
        play = lambda side: self.evaluator(
            MatchPolicy(policy, other, np.int32(side)), seed, when, share, lent
        )
        return joined([play(side) for side in range(self.played)])

    def summary(self, games: list[Games]) -> Evaluation:
        """The evaluation of each seed's games, with scores in turn-based games."""
        all_of = of_seeds(games)
        played = all_of.returns  # [..., W, E, N]
        totals = np.stack([played[..., self.sides == s].sum(-1) for s in range(self.count)], -1)
        own = np.stack([totals[..., w, :, w] for w in range(self.played)], -2)
        flat = lambda x: x.reshape(*x.shape[:-2], -1)
        size = np.bincount(self.sides)  # sides are compared by their agents' mean return
        means = totals / size, own / size[: self.played, None]
        scores = flat(scores_of(means[1], means[0])) if self.has_winner else None
        infos = {name: flat(values) for name, values in all_of.infos.items()}
        return Evaluation(
            flat(own), None, own.mean(-1), scores, flat(all_of.lengths), flat(all_of.cut), infos
        )


class Apart:
    """Evaluates a policy that searches, and its network alone; used like an Evaluator."""

    def __init__(self, searching: Evaluator | Contest, network: Evaluator | Contest):
        self.searching, self.network, self.episodes = searching, network, searching.episodes

    def __call__(
        self,
        policy: Any,
        seed: int,
        when: int = 0,
        episodes: int | None = None,
        lent: VectorEnv | None = None,
    ) -> tuple[Games, Games]:
        """The games of both, of the same seeds."""
        told = policy, seed, when, episodes, lent
        return self.searching(*told), self.network(*told)

    def summary(self, games: list[tuple[Games, Games]]) -> Evaluation:
        """The evaluation of each seed's games, which holds that of the network."""
        searched, alone = (list(each) for each in zip(*games, strict=True))
        return self.searching.summary(searched)._replace(network=self.network.summary(alone))


def scores_of(own: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """[..., W, E] 1 if a game's return is above all others, 1/2 if it ties with the best, else 0.

    own [..., W, E] are the returns of side w in the games [w], totals [..., W, E, S] of all sides.
    """
    is_own = np.eye(*totals.shape[-3::2], dtype=bool)[:, None]  # [W, 1, S]
    paid = jnp.asarray(np.where(is_own, own[..., None], totals))
    return np.asarray(ops.game_score(paid, jnp.asarray(is_own)), float)
