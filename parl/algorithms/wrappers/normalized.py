"""Normalisation as a wrapper around any algorithm, as optax wraps transformations.

The statistics are part of the state, and actors receive them inside `policy`; replay holds raw
data. Shapes: O observation; T time, B environments.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer

from parl import ops
from parl.algorithms.wrappers.base import AlgorithmWrapper
from parl.core.algorithm import Algorithm
from parl.core.rewards import LAST_REWARD
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Rollout, Step, Strategy, Window, static

VIEW = "['view']"  # the leaf with each agent's own observation
UNSEEN = "['sim']", f"['{LAST_REWARD}']"  # leaves that no network sees as they are
CLIP_NORMALIZED = 10.0  # normalised values are clipped to this range
COLUMNS = 256  # default number of environments whose returns continue across rollouts
NUMBERS = ("float32", "uint8")  # dtypes that are normalised: not choices or masks


class Stats(struct.PyTreeNode):
    """Running moments of an array, initially a unit normal with a very small weight."""

    count: Array  # []
    mean: Array  # [*O]
    m2: Array  # [*O] sum of squared distances from the mean

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> "Stats":
        """Mean 0 and variance 1, with a very small weight."""
        count = jnp.float32(1e-4)
        return cls(count, jnp.zeros(shape), jnp.full(shape, count))

    @property
    def std(self) -> Array:
        """Standard deviation [*O], bounded away from 0."""
        return jnp.sqrt(self.m2 / self.count + 1e-8)

    def merge(self, x: Array) -> "Stats":
        """Adds a block [..., *O] to the moments."""
        x = x.reshape(-1, *self.mean.shape)
        mean = x.mean(0)
        return self.joined(len(x), mean, ((x - mean) ** 2).sum(0))

    def merge_views(self, x: Array, alive: Array, groups: tuple[int, ...]) -> "Stats":
        """Adds views [..., N, O] of living agents to moments [N, O].

        Agents of a group are pooled, so that equal views stay equal; () is one group. A block has
        the weight of its number of rows, however many agents are alive in them.
        """
        rows, lives = x.reshape(-1, *self.mean.shape), alive.reshape(-1, x.shape[-2], 1)
        of = np.array(groups or (0,) * x.shape[-2])
        same = jnp.asarray(of[:, None] == of, jnp.float32)  # [N, N]
        pooled = lambda rows: same @ jnp.where(lives, rows, 0.0).sum(0)  # [N, O]
        size = pooled(jnp.ones_like(rows))
        share = jnp.maximum(size, 1.0)
        mean = jnp.where(size > 0, pooled(rows) / share, self.mean)
        variance = pooled((rows - mean) ** 2) / share
        variance = jnp.where(size > 0, variance, self.m2 / self.count)
        return self.joined(len(rows), mean, len(rows) * variance)

    def merge_active(self, x: Array, active: Array | None) -> "Stats":
        """Adds the numbers [..., N] of active agents, or all numbers if `active` is None."""
        if active is None:
            return self.merge(x)
        mean = ops.mean(x, active)
        return self.joined(active.sum(), mean, ops.masked((x - mean) ** 2, active).sum())

    def joined(self, size: int | Array, mean: Array, m2: Array) -> "Stats":
        """The moments merged with those of a block of `size`: Chan et al. 1979, eq. 2.1."""
        count, delta = self.count + size, mean - self.mean
        m2 = self.m2 + m2 + delta**2 * self.count * size / count
        return Stats(count, self.mean + delta * size / count, m2)

    def scale(self, x: Array) -> Array:
        """x centred and scaled."""
        return (x - self.mean) / self.std

    def restore(self, x: Array) -> Array:
        """The inverse of `scale`."""
        return x * self.std + self.mean

    def __call__(self, x: Array) -> Array:
        """x centred, scaled and clipped."""
        return jnp.clip(self.scale(x), -CLIP_NORMALIZED, CLIP_NORMALIZED)


class NormalizedState(struct.PyTreeNode):
    """The wrapped algorithm's state and the statistics."""

    inner: Any
    obs: dict[str, Stats]  # by path, for floats and the pixels of images; not for masks
    reward: Stats  # of the discounted return []
    returns: Any = ()  # [num_envs, *agent_shape] discounted returns of the current episodes
    largest: Any = ()  # [] largest absolute return so far, if `return_bound` is set


class NormalizedPolicy(struct.PyTreeNode):
    """The wrapped algorithm's policy and the statistics of its observations."""

    inner: Any
    obs: dict[str, Stats]


def paths_of(tree: Any) -> list[tuple[str, Any]]:
    """The leaves of a tree with their names."""
    return [(jax.tree_util.keystr(path), x) for path, x in jax.tree.leaves_with_path(tree)]


def normalize(stats: dict[str, Stats], obs: Any) -> Any:
    """Applies the statistics to the leaves of obs that have some."""
    name = jax.tree_util.keystr
    apply = lambda path, x: stats[name(path)](x) if name(path) in stats else x
    return jax.tree_util.tree_map_with_path(apply, obs)


class Normalized(AlgorithmWrapper):
    """Gives `inner` observations of mean 0 and variance 1, and rewards scaled to unit returns.

    Rewards are divided by the standard deviation of the discounted return (Engstrom et al. 2020,
    arXiv:2005.12729, app. A.1), never shifted. With a `return_bound` the divisor is larger if the
    largest return so far would exceed the bound: Lee et al. 2025, arXiv:2502.15280, sec. 4.

    Returns continue from rollout to rollout in the first `num_envs` columns; in others they start
    at 0 with each rollout. If a column changes its environment, as in asynchronous runs, it
    continues with the return of another environment until its episode ends.
    """

    gamma: float = 0.99
    normalize_obs: bool = static(default=True)
    normalize_reward: bool = static(default=False)
    num_envs: int = static(default=COLUMNS)
    return_bound: float | None = static(default=None)
    groups: tuple[int, ...] = static(default=())  # groups of agents whose views share statistics

    def init(self, key: Array, spec: EnvSpec) -> NormalizedState:
        leaves = paths_of(spec.obs) if self.normalize_obs else []
        seen = [(name, x) for name, x in leaves if x.dtype in NUMBERS and name not in UNSEEN]
        obs = {name: Stats.zeros(x.shape[1:]) for name, x in seen}
        state = NormalizedState(self.inner.init(key, spec), obs, Stats.zeros(()))
        if self.normalize_reward:
            state = state.replace(returns=jnp.zeros((self.num_envs, *spec.agent_shape)))
        return state if self.return_bound is None else state.replace(largest=jnp.zeros(()))

    def policy(self, state: NormalizedState) -> NormalizedPolicy:
        return NormalizedPolicy(self.inner.policy(state.inner), state.obs)

    def act(
        self, policy: NormalizedPolicy, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        return self.inner.act(policy.inner, normalize(policy.obs, obs), memory, key, explore)

    def exploring(self, policy: NormalizedPolicy, place: Array) -> tuple[Algorithm, Any]:
        inner, own = self.inner.exploring(policy.inner, place)
        return self.replace(inner=inner), policy.replace(inner=own)

    def strategy(self, policy: NormalizedPolicy, obs: Any, memory: Any) -> tuple[Strategy, Any]:
        return self.inner.strategy(policy.inner, normalize(policy.obs, obs), memory)

    def observe(self, state: NormalizedState, rollout: Rollout) -> NormalizedState:
        obs, reward, returns, largest = state.obs, state.reward, state.returns, state.largest
        if self.normalize_obs:
            obs = self.seen(obs, rollout.steps.obs)
        if self.normalize_reward:
            sums = self.discounted(rollout.steps, returns)
            reward, known = reward.merge(sums), min(len(returns), sums.shape[1])
            returns = returns.at[:known].set(sums[-1, :known])
            if self.return_bound is not None:
                largest = jnp.maximum(largest, jnp.abs(sums).max())
        inner = self.inner.observe(state.inner, rollout)
        return NormalizedState(inner, obs, reward, returns, largest)

    def seen(self, stats: dict[str, Stats], obs: Any) -> dict[str, Stats]:
        """The statistics after observations [T, B, ...], without the views of dead agents."""
        leaves = dict(paths_of(obs))
        merged = {name: old.merge(leaves[name]) for name, old in stats.items() if name != VIEW}
        if VIEW in stats:
            of_agents = ops.active_agents(obs) is not None
            old, x = stats[VIEW], leaves[VIEW]
            new = old.merge_views(x, obs["alive"], self.groups) if of_agents else old.merge(x)
            merged[VIEW] = new
        return {name: merged[name] for name in stats}

    def discounted(self, steps: Step, start: Any = None) -> Array:
        """Discounted sums of the rewards so far in this episode, [T, B, ...].

        R_t = r_t + gamma R_{t-1}, and R_t = r_t at `first`. `start` [num_envs, ...] holds the sums
        before the first step; further columns start at 0. Without `start`, the sums go on from the
        last ones that this object gave without it; only outside of programs, as those are kept
        beside its fields.
        """
        if start is None:
            sums = jax.jit(Normalized.discounted)(self, steps, vars(self).get("ends", ()))
            if not isinstance(sums, Tracer):
                object.__setattr__(self, "ends", sums[-1])
            return sums

        def forward(total: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
            reward, first = x
            total = reward + self.gamma * jnp.where(ops.expand_like(first, reward), 0.0, total)
            return total, total

        before = jnp.zeros_like(steps.reward[0])
        if known := min(len(start), len(before)):
            before = before.at[:known].set(start[:known])
        return jax.lax.scan(forward, before, (steps.reward, steps.first))[1]

    def update(self, state: NormalizedState, batch: Any, key: Array) -> tuple[Any, Metrics]:
        if isinstance(batch, Step):
            batch = self.normal(state, batch)
        else:
            batch = batch._replace(steps=self.normal(state, batch.steps))
        if isinstance(batch, Window):
            batch = batch._replace(before=self.normal(state, batch.before))
        inner, metrics = self.inner.update(state.inner, batch, key)
        return state.replace(inner=inner), metrics

    def normal(self, state: NormalizedState, steps: Step) -> Step:
        """The steps with normalised observations and rewards."""
        reward = steps.reward
        if self.normalize_reward:
            scale = state.reward.std
            if self.return_bound is not None:
                scale = jnp.maximum(scale, state.largest / self.return_bound)
            reward = jnp.clip(reward / scale, -CLIP_NORMALIZED, CLIP_NORMALIZED)
        obs, next_obs = normalize(state.obs, steps.obs), normalize(state.obs, steps.next_obs)
        return steps._replace(obs=obs, next_obs=next_obs, reward=reward)
