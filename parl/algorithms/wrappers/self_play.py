"""Self-play as a wrapper around any multi-agent algorithm, with a pool of frozen opponents.

Opponents are drawn by prioritised matchmaking (Vinyals et al. 2019, doi:10.1038/s41586-019-1724-z,
methods) and rated by Elo. The pool is part of the state, so that a run resumes with it.
Shapes: T time, B environments, N agents, P policies in the pool, M of them drawn.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl import ops
from parl.algorithms.wrappers.base import AlgorithmWrapper
from parl.algorithms.wrappers.match import choose
from parl.core.algorithm import Algorithm
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Rollout, Step, Strategy, static

INITIAL_RATING = 1000.0  # the rating of a player that has not played


class OpponentPool(struct.PyTreeNode):
    """Frozen policies and the learner's results against each of them."""

    policies: Any  # [P, ...]
    size: Array  # [] int32, entries in use; the rest is padding
    games: Array  # [P] number of recent games, with decay
    score: Array  # [P] number of these won; a draw counts half
    ratings: Array  # [P]
    rating: Array  # [] the learner's own

    @property
    def in_use(self) -> Array:
        """[P] bool, which entries are in use."""
        return jnp.arange(len(self.games)) < self.size

    @property
    def win_rate(self) -> Array:
        """[P] the share of games that the learner wins; 1/2 before any game."""
        return (self.score + 1.0) / (self.games + 2.0)


class SelfPlayState(struct.PyTreeNode):
    """The wrapped algorithm's state, the pool, and the opponents drawn from it."""

    inner: Any
    pool: OpponentPool
    drawn: Array  # [M] int32, indices into the pool
    age: Array  # [] int32, steps of each environment since the draw
    seed: Array  # [] uint32, of the draws
    updates: Array  # [] int32
    rollouts: Array  # [] int32, since the first update


class SelfPlayPolicy(struct.PyTreeNode):
    """What acting needs."""

    learner: Any
    opponents: Any  # [M, ...] frozen policies
    drawn: Array  # [M] int32


class SelfPlayMemory(NamedTuple):
    """The memories of both players and the match of the current episode; [B, ...]."""

    learner: Any
    opponent: Any
    side: Array  # [B] int32, the learner's; -1 before the first step
    drawn: Array  # [B] int32, the opponent at the first step


class SelfPlay(AlgorithmWrapper):
    """`inner` plays one side of each game and learns from it; `opponent` plays the others.

    Each of M drawn opponents plays in an equal slice of the environments. The learner's side
    alternates between environments and is drawn for every game. Opponents are the policies `frozen`
    [P, ...] if given. Otherwise they are earlier policies of the learner, which are admitted every
    `admit_every` rollouts; in a full pool they replace the opponent with the highest win rate of
    the learner. A share `noise` of the opponents' actions is random, for diversity. With
    explore=False, `inner` acts for all sides.
    """

    opponent: Algorithm  # `inner` itself if its own policies are the opponents
    random: Algorithm  # source of the opponents' random actions
    frozen: Any = None  # [P, ...] policies of `opponent`
    sides: tuple[int, ...] = static(default=())  # of each agent, 0 .. S - 1
    pool_size: int = static(default=16)  # P, without `frozen`
    matches: int = static(default=4)  # M
    match_steps: int = static(default=50)  # least number of steps between draws
    admit_every: int = static(default=10)  # rollouts between admissions
    k: float = 16.0  # of Elo
    noise: float = 0.0
    decay: float = 0.95  # of past games per rollout, so that win rates follow the learner

    def init(self, key: Array, spec: EnvSpec) -> SelfPlayState:
        k_inner, k_draw = jax.random.split(key)
        inner = self.inner.init(k_inner, spec)
        policies, size = self.frozen, 1
        if policies is None:
            copies = lambda x: jnp.stack([x] * self.pool_size)
            policies = jax.tree.map(copies, self.inner.policy(inner))
        leaves = jax.tree.leaves(policies)
        entries = leaves[0].shape[0] if leaves else 1
        if self.frozen is not None:
            policies, size = jax.tree.map(jnp.array, policies), entries
        ratings = jnp.full(entries, INITIAL_RATING)
        games, score = jnp.zeros(entries), jnp.zeros(entries)
        pool = OpponentPool(
            policies, jnp.int32(size), games, score, ratings, jnp.asarray(INITIAL_RATING)
        )
        drawn = jnp.arange(self.matches, dtype=jnp.int32) % size
        zeros = [jnp.zeros((), jnp.int32) for _ in range(3)]
        return SelfPlayState(
            inner, pool, drawn, zeros[0], jax.random.bits(k_draw), zeros[1], zeros[2]
        )

    def policy(self, state: SelfPlayState) -> SelfPlayPolicy:
        opponents = jax.tree.map(lambda x: x[state.drawn], state.pool.policies)
        return SelfPlayPolicy(self.inner.policy(state.inner), opponents, state.drawn)

    def memory(self, batch_shape: tuple[int, ...]) -> SelfPlayMemory:
        nobody = jnp.full(batch_shape, -1, jnp.int32)
        learner, opponent = self.inner.memory(batch_shape), self.opponent.memory(batch_shape)
        return SelfPlayMemory(learner, opponent, nobody, nobody)

    def act(
        self, policy: SelfPlayPolicy, obs: Any, memory: SelfPlayMemory, key: Array, explore: bool
    ) -> tuple[Array, SelfPlayMemory, dict[str, Any]]:
        """Adds extras `side` [B] and `opponent` [B], -1 if another opponent began the game."""
        if not explore:
            action, kept, extras = self.inner.act(policy.learner, obs, memory.learner, key, False)
            return action, memory._replace(learner=kept), extras
        k_learner, k_opponent, k_side, k_noise = jax.random.split(key, 4)
        action, kept, extras = self.inner.act(
            policy.learner, obs, memory.learner, k_learner, explore
        )
        theirs, remembered, drawn = self.answer(policy, obs, memory.opponent, k_opponent)
        k_which, k_random = jax.random.split(k_noise)
        is_random = jax.random.bernoulli(k_which, self.noise, theirs.shape[:2])  # [B, N]
        theirs = choose(is_random, self.random.act((), obs, (), k_random, True)[0], theirs)
        count, opens = max(self.sides) + 1, memory.side < 0
        turn = jnp.arange(len(drawn)) + jax.random.randint(k_side, (), 0, count)
        side = jnp.where(opens, (turn % count).astype(jnp.int32), memory.side)
        met = jnp.where(opens, drawn, memory.drawn)
        extras = extras | {"side": side, "opponent": jnp.where(met == drawn, met, -1)}
        memory = SelfPlayMemory(kept, remembered, side, met)
        return choose(self.mine(side), action, theirs), memory, extras

    def strategy(
        self, policy: SelfPlayPolicy, obs: Any, memory: SelfPlayMemory
    ) -> tuple[Strategy, SelfPlayMemory]:
        """That of `inner`, for all sides."""
        found, kept = self.inner.strategy(policy.learner, obs, memory.learner)
        return found, memory._replace(learner=kept)

    def mine(self, side: Array) -> Array:
        """Which agents belong to the learner's side [...]: [..., N] bool."""
        return jnp.asarray(side)[..., None] == np.array(self.sides)

    def answer(
        self, policy: SelfPlayPolicy, obs: Any, memory: Any, key: Array
    ) -> tuple[Array, Any, Array]:
        """(opponents' actions [B, N, ...], their memories, the opponent's index [B]).

        The number of opponents that play is the greatest common divisor of M and B.
        """
        size = obs["alive"].shape[0]
        count = math.gcd(size, self.matches)
        apart = lambda tree: jax.tree.map(
            lambda x: x.reshape(count, size // count, *x.shape[1:]), tree
        )
        joined = lambda tree: jax.tree.map(lambda x: x.reshape(size, *x.shape[2:]), tree)

        def play(policy: Any, obs: Any, memory: Any, key: Array) -> tuple[Any, Any]:
            return self.opponent.act(policy, obs, memory, key, True)[:2]

        opponents = jax.tree.map(lambda x: x[:count], policy.opponents)
        obs = jax.tree.map(jnp.asarray, obs)
        action, memory = jax.vmap(play)(
            opponents, apart(obs), apart(memory), jax.random.split(key, count)
        )
        return joined(action), joined(memory), jnp.repeat(policy.drawn[:count], size // count)

    def own(self, rollout: Rollout) -> Rollout:
        """The rollout for `inner`, in which agents of other sides are not alive."""
        steps = rollout.steps
        mine = self.mine(steps.extras["side"])
        hide = lambda obs: obs | {"alive": obs["alive"] & mine}
        extras = {k: x for k, x in steps.extras.items() if k not in ("side", "opponent")}
        steps = steps._replace(obs=hide(steps.obs), next_obs=hide(steps.next_obs), extras=extras)
        return Rollout(steps, rollout.memory.learner)

    def items(self, rollout: Rollout) -> Any:
        return self.inner.items(self.own(rollout))

    def update(self, state: SelfPlayState, batch: Any, key: Array) -> tuple[Any, Metrics]:
        """Updates `inner` on a rollout as it was collected, or on a batch of its `items`."""
        if isinstance(batch, Rollout) and isinstance(batch.memory, SelfPlayMemory):
            batch = self.own(batch)
        inner, metrics = self.inner.update(state.inner, batch, key)
        pool = state.pool
        known = {
            "elo": pool.rating,
            "opponent_elo": ops.mean(pool.ratings, pool.in_use),
            "pool_win_rate": ops.mean(pool.win_rate, pool.in_use),
            "pool_size": pool.size.astype(jnp.float32),
        }
        return state.replace(inner=inner, updates=state.updates + 1), metrics | known

    def observe(self, state: SelfPlayState, rollout: Rollout) -> SelfPlayState:
        """Scores finished games, admits policies and draws opponents, except during warm-up."""
        inner = self.inner.observe(state.inner, self.own(rollout))
        learns = state.updates > 0
        rollouts, age = state.rollouts + learns, state.age + rollout.steps.first.shape[0]
        pool = self.scored(state.pool, rollout.steps)
        if self.frozen is None:
            due = rollouts % self.admit_every == 0
            pool = self.admitted(pool, self.inner.policy(inner), due)
        pool = jax.tree.map(lambda new, old: jnp.where(learns, new, old), pool, state.pool)
        key = jax.random.fold_in(jax.random.key(state.seed), rollouts)
        chances = jnp.log(ops.matchmaking(pool.win_rate, pool.in_use))
        drawn = jax.random.categorical(key, chances, shape=state.drawn.shape).astype(jnp.int32)
        due = learns & (age >= self.match_steps)
        drawn, age = jnp.where(due, drawn, state.drawn), jnp.where(due, 0, age)
        return state.replace(inner=inner, pool=pool, drawn=drawn, age=age, rollouts=rollouts)

    def scored(self, pool: OpponentPool, steps: Step) -> OpponentPool:
        """The pool after the finished games; those against one opponent count as one match."""
        index = steps.extras["opponent"]  # [T, B]
        counts = steps.last & (index >= 0)
        hits = counts[..., None] & (index[..., None] == jnp.arange(len(pool.games)))  # [T, B, P]
        games = hits.sum((0, 1)).astype(jnp.float32)
        paid, own = standing(steps, self.mine(steps.extras["side"]), self.sides)
        total = lambda score: jnp.where(hits, score[..., None], 0.0).sum((0, 1))
        score = total(ops.game_score(paid, own))
        mean = total(ops.duel_score(paid, own)) / jnp.maximum(games, 1.0)
        rating, ratings = ops.elo(pool.rating, pool.ratings, mean, games > 0, self.k)
        games, score = self.decay * pool.games + games, self.decay * pool.score + score
        return pool.replace(games=games, score=score, rating=rating, ratings=ratings)

    def admitted(self, pool: OpponentPool, policy: Any, due: Array) -> OpponentPool:
        """The pool with the learner's policy and rating added if `due` []."""
        easiest = jnp.argmax(jnp.where(pool.in_use, pool.win_rate, 0.0))
        size = len(pool.games)
        place = jnp.where(pool.size < size, pool.size, easiest)
        enter = lambda entries, x: entries.at[place].set(jnp.where(due, x, entries[place]))
        return OpponentPool(
            jax.tree.map(enter, pool.policies, policy),
            jnp.minimum(pool.size + due, size),
            enter(pool.games, 0.0),
            enter(pool.score, 0.0),
            enter(pool.ratings, pool.rating),
            pool.rating,
        )


def outcome(steps: Step, mine: Array, sides: tuple[int, ...] = ()) -> Array:
    """[T, B] 1 if the learner's side leads the game, 1/2 if it ties with the best, else 0.

    `mine` [T, B, N] marks its agents; `sides` holds the side of each agent, by default its own. The
    return of a side is the mean over its agents, counted from the start of the game or of the
    rollout. It is exact if rollouts hold whole games or only the last step is rewarded.
    """
    return ops.game_score(*standing(steps, mine, sides))


def standing(steps: Step, mine: Array, sides: tuple[int, ...] = ()) -> tuple[Array, Array]:
    """(return of each side, whether it is the learner's) [T, B, S], as in `outcome`."""

    def forward(total: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, first = x
        total = reward + jnp.where(first[:, None], 0.0, total)
        return total, total

    start = jnp.zeros_like(steps.reward[0])
    paid = jax.lax.scan(forward, start, (jnp.asarray(steps.reward), jnp.asarray(steps.first)))[1]
    of = np.array(sides or range(mine.shape[-1]))
    members = [np.flatnonzero(of == side) for side in range(of.max() + 1)]
    mean = lambda index: paid[..., index].mean(-1)
    own = lambda index: mine[..., index].any(-1)
    stack = lambda part: jnp.stack([part(index) for index in members], -1)
    return stack(mean), stack(own)
