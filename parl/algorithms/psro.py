"""Policy-space response oracles: best responses to mixtures of earlier ones.

Lanctot et al. 2017, arXiv:1711.00832, algorithm 1, for games of two players in turns whose rewards
sum to zero. Each player has a pool of greedy policies. In turn,

1. `inner` learns a response to the mixture of the other player's pool, for both players at once,
   and joins both pools;
2. the pools' policies play each other, which estimates the new row and column of the payoffs U;
3. the mixtures become an equilibrium of U (the meta-solver), and `inner` begins anew.

With exact responses it is the double oracle method. The answer of the algorithm is the mixture:
each player draws one policy of its pool before the game. Entry p of the pools is one policy of
`inner` with networks of both players. Shapes: T time, B environments, N = 2 players, P entries of a
pool, M = 2 P matches, each played in an equal slice of the environments.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl import ops
from parl.algorithms.wrappers.base import AlgorithmWrapper
from parl.algorithms.wrappers.match import choose
from parl.algorithms.wrappers.self_play import standing
from parl.core.errors import ConfigError
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Rollout, Strategy, static

NOBODY = -1  # the learner's seat while payoffs are measured


class Matches(NamedTuple):
    """Who plays in each slice of the environments."""

    row: Array  # [M] int32, the entry of the first player's pool
    column: Array  # [M] int32, of the second player's
    seat: Array  # [M] int32, the seat that the learner has in place of the entry


class PSROState(struct.PyTreeNode):
    """The learner and the pools."""

    inner: Any
    fresh: Any  # the learner's first state, from which every response begins
    pool: Any  # [P, ...] policies of `inner`
    size: Array  # [] int32, entries in use
    newest: Array  # [] int32, the entry whose payoffs are measured next
    payoff: Array  # [P, P] sum of the first player's returns by entries
    games: Array  # [P, P] how many games
    weights: Array  # [N, P] the mixtures
    matches: Matches
    time: Array  # [] int32, rollouts since the last mixtures
    rollouts: Array  # [] int32
    seed: Array  # [] uint32


class PSROPolicy(struct.PyTreeNode):
    """What acting needs."""

    learner: Any
    pool: Any  # [P, ...]
    weights: Array  # [N, P]
    matches: Matches


class PSRO(AlgorithmWrapper):
    """`inner`, which acts for both players, as the oracle; greedy, the likeliest entries play."""

    responses: int = static(default=16)  # P; in full pools the least likely entry is replaced
    response_rollouts: int = static(default=100)
    measure_rollouts: int = static(default=40)

    @property
    def episodic(self) -> bool:
        """Matches change between rollouts, and games are not broken off by that."""
        return True

    @property
    def tolerates_lag(self) -> bool:
        return False

    def init(self, key: Array, spec: EnvSpec) -> PSROState:
        k_inner, k_draw = jax.random.split(key)
        inner, count = self.inner.init(k_inner, spec), self.responses
        copied = lambda tree: jax.tree.map(jnp.copy, tree)
        pool = jax.tree.map(lambda x: jnp.stack([x] * count), self.inner.policy(inner))
        zero = lambda: jnp.zeros((), jnp.int32)
        table, weights = jnp.zeros((count, count)), jnp.zeros((2, count)).at[:, 0].set(1.0)
        state = PSROState(
            inner, copied(inner), pool, zero() + 1, zero(), table, jnp.copy(table), weights,
            self.measured_matches(zero(), zero() + 1), zero() + self.response_rollouts, zero(),
            jax.random.bits(k_draw),
        )  # fmt: skip
        return state

    def policy(self, state: PSROState) -> PSROPolicy:
        return PSROPolicy(self.inner.policy(state.inner), state.pool, state.weights, state.matches)

    # --- acting -------------------------------------------------------------------------------

    def act(
        self, policy: PSROPolicy, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        """Exploring, the extras hold `seat` [B], and what `inner` tells."""
        if not explore:
            best = policy.weights.argmax(-1)  # [N]
            first, second = (self.greedy(entry(policy.pool, best[i]), obs, key) for i in (0, 1))
            return choose(np.array([[True, False]]), first, second), memory, {}
        size, count = obs["alive"].shape[0], 2 * self.responses
        if size % count:
            raise ConfigError(
                f"psro plays {count} matches side by side, which {size} environments of an actor "
                f"do not divide into: use a multiple of {count} for each, or another --responses."
            )
        apart = lambda x: jnp.asarray(x).reshape(count, size // count, *x.shape[1:])
        joined = lambda x: x.reshape(size, *x.shape[2:])
        slices = jax.tree.map(apart, obs)
        play = jax.vmap(lambda p, obs: self.greedy(entry(policy.pool, p), obs, key))
        row, column = (joined(play(p, slices)) for p in policy.matches[:2])
        others = choose(np.array([[True, False]]), row, column)
        own, memory, extras = self.inner.act(policy.learner, obs, memory, key, True)
        seat = jnp.repeat(policy.matches.seat, size // count)  # [B]
        return choose(mine(seat), own, others), memory, extras | {"seat": seat}

    def greedy(self, policy: Any, obs: Any, key: Array) -> Array:
        """An entry's actions [B, N]."""
        return self.inner.act(policy, obs, (), key, False)[0]

    def strategy(self, policy: PSROPolicy, obs: Any, memory: Any) -> tuple[Strategy, Any]:
        """The pools with their mixtures."""
        play = lambda entry: self.inner.act(entry, obs, (), jax.random.key(0), False)[0]
        actions = jax.lax.map(play, policy.pool)  # [P, B, N]
        return Strategy(jax.nn.one_hot(actions, obs["legal"].shape[-1]), policy.weights), memory

    # --- learning -----------------------------------------------------------------------------

    def update(self, state: PSROState, batch: Rollout, key: Array) -> tuple[PSROState, Metrics]:
        """One rollout of a response, or of measuring; at the end of each the pools go on."""
        responds = state.time < self.response_rollouts
        learn = lambda: self.inner.update(state.inner, self.own(batch), key)
        told = jax.eval_shape(learn)[1]
        nothing = {name: jnp.full(x.shape, jnp.nan, x.dtype) for name, x in told.items()}
        inner, metrics = jax.lax.cond(responds, learn, lambda: (state.inner, nothing))
        state = self.counted(state.replace(inner=inner), batch, ~responds)
        time = state.time + 1
        state = state.replace(time=time, rollouts=state.rollouts + 1)
        state = jax.lax.cond(time == self.response_rollouts, self.admitted, lambda x: x, state)
        over = time >= self.response_rollouts + self.measure_rollouts
        state = jax.lax.cond(over, self.solved, lambda x: x, state)
        state = state.replace(matches=self.next_matches(state))
        value = state.weights[0] @ self.payoffs(state) @ state.weights[1]
        more = {"pool_size": state.size.astype(jnp.float32), "meta_value": value}
        return state, metrics | more

    def own(self, rollout: Rollout) -> Rollout:
        """The rollout for `inner`, in which the other player is not alive."""
        steps = rollout.steps
        seen = mine(steps.extras["seat"])
        hide = lambda obs: obs | {"alive": obs["alive"] & seen}
        extras = {name: x for name, x in steps.extras.items() if name != "seat"}
        steps = steps._replace(obs=hide(steps.obs), next_obs=hide(steps.next_obs), extras=extras)
        return Rollout(steps, rollout.memory)

    def counted(self, state: PSROState, rollout: Rollout, measuring: Array) -> PSROState:
        """The state with the rollout's finished games in the payoffs, if they were measured."""
        steps, (row, column, _) = rollout.steps, state.matches
        paid = standing(steps, jnp.zeros_like(steps.reward, bool))[0][..., 0]  # [T, B]
        over = jnp.asarray(steps.last) & measuring
        by_match = lambda x: x.sum(0).reshape(len(row), -1).sum(-1)
        payoff = state.payoff.at[row, column].add(by_match(jnp.where(over, paid, 0.0)))
        games = state.games.at[row, column].add(by_match(over).astype(jnp.float32))
        return state.replace(payoff=payoff, games=games)

    def payoffs(self, state: PSROState) -> Array:
        """[P, P] the first player's mean return by entries."""
        return state.payoff / jnp.maximum(state.games, 1.0)

    def in_use(self, state: PSROState) -> Array:
        """[P] bool."""
        return jnp.arange(self.responses) < state.size

    def admitted(self, state: PSROState) -> PSROState:
        """The state with the learned response in both pools."""
        used = jnp.where(self.in_use(state), state.weights.sum(0), jnp.inf)
        full = state.size >= self.responses
        place = jnp.where(full, jnp.argmin(used), state.size).astype(jnp.int32)
        enter = lambda entries, x: entries.at[place].set(x)
        forget = lambda table: table.at[place].set(0.0).at[:, place].set(0.0)
        return state.replace(
            pool=jax.tree.map(enter, state.pool, self.inner.policy(state.inner)),
            size=jnp.minimum(state.size + 1, self.responses),
            newest=place,
            payoff=forget(state.payoff),
            games=forget(state.games),
        )

    def solved(self, state: PSROState) -> PSROState:
        """The state with mixtures of the measured payoffs, and a learner that begins anew."""
        used = self.in_use(state)
        weights = jnp.stack(ops.zero_sum(self.payoffs(state), used, used))
        fresh = jax.tree.map(jnp.copy, state.fresh)
        return state.replace(weights=weights, inner=fresh, time=jnp.zeros_like(state.time))

    # --- matches ------------------------------------------------------------------------------

    def next_matches(self, state: PSROState) -> Matches:
        """Who plays in the next rollout."""
        key = jax.random.fold_in(jax.random.key(state.seed), state.rollouts)
        measured = self.measured_matches(state.newest, state.size)
        responding = self.drawn_matches(state.weights, key)
        responds = state.time < self.response_rollouts
        return jax.tree.map(lambda a, b: jnp.where(responds, a, b), responding, measured)

    def measured_matches(self, newest: Array, size: Array) -> Matches:
        """The newest entry of each player against all of the other's."""
        index = jnp.arange(2 * self.responses)
        other, is_row = (index % size).astype(jnp.int32), index // size % 2 == 0
        row, column = jnp.where(is_row, newest, other), jnp.where(is_row, other, newest)
        return Matches(row, column, jnp.full(len(index), NOBODY, jnp.int32))

    def drawn_matches(self, weights: Array, key: Array) -> Matches:
        """The learner in either seat for half of the matches, against the other's mixture.

        Draws are systematic: each entry plays as often as its weight says, up to one match.
        """
        levels = (jnp.arange(self.responses) + jax.random.uniform(key)) / self.responses
        last = (weights > 0).shape[-1] - 1 - jnp.argmax((weights > 0)[:, ::-1], -1)  # [N]
        draw = lambda share, last: jnp.minimum(
            jnp.searchsorted(jnp.cumsum(share), levels, side="right"), last
        )
        first, second = (draw(weights[i], last[i]).astype(jnp.int32) for i in (0, 1))
        none, seat = jnp.zeros_like(first), jnp.arange(2 * self.responses) // self.responses
        row, column = jnp.concatenate([none, first]), jnp.concatenate([second, none])
        return Matches(row, column, seat.astype(jnp.int32))


def entry(pool: Any, index: Array) -> Any:
    """One policy of a pool [P, ...]."""
    return jax.tree.map(lambda x: x[index], pool)


def mine(seat: Array) -> Array:
    """Which players belong to the learner's seat [...]: [..., N] bool."""
    return jnp.asarray(seat)[..., None] == np.arange(2)
