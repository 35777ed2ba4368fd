"""Samplers that wrap a replay: n-step returns and prioritisation.

`Prioritized(NStep(Replay(capacity)))` combines both.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl import ops
from parl.agents.replay.priorities import Priorities
from parl.agents.replay.ring import Change, Replay, ReplayState, instead, unchanged
from parl.agents.replay.windows import stored, together, window
from parl.core.draws import Source
from parl.core.errors import ConfigError
from parl.core.types import Array, Step, static

LARGEST = 1e9  # error; larger ones would swamp all other priorities in a float32 sum
HUGE = 1e20  # priority; float32 can hold the sum of many such values


class Sampler(struct.PyTreeNode):
    """Wraps a replay and delegates to it whatever is not overridden."""

    inner: Any  # a Replay or a Sampler

    def init(self, items: Any, lead: tuple[int, ...] = (), stride: int = 1) -> ReplayState:
        return self.inner.init(items, lead, stride)

    def filled(self, rows: dict[str, Any], layout: Any, lead: tuple[int, ...]) -> ReplayState:
        return self.inner.filled(rows, layout, lead)

    def add(self, state: ReplayState, items: Any) -> ReplayState:
        return self.inner.add(state, items)

    def index(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> Any:
        return self.inner.index(state, key, shape)

    def take(self, state: ReplayState, index: Any) -> Any:
        return self.at(state, instead(index, self.usable(state, index)))

    def usable(self, state: ReplayState, index: Any) -> Any:
        return self.inner.usable(state, index)

    def at(self, state: ReplayState, index: Any, change: Change = unchanged) -> Any:
        return self.inner.at(state, index, change)

    def learned(self, state: ReplayState, index: Any, td_error: Any) -> ReplayState:
        return self.inner.learned(state, index, td_error)

    def sample(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> Any:
        return self.draw(state, key, shape)[1]

    def draw(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> tuple[Any, Any]:
        index = self.index(state, key, shape)
        return index, self.take(state, index)

    @property
    def capacity(self) -> int:
        """The number of items that it can hold."""
        return self.inner.capacity

    @property
    def on_host(self) -> bool:
        return self.inner.on_host


def out_of_order(replay: Any) -> Any:
    """The replay for adds that come from any of the environments, as in asynchronous runs."""
    if isinstance(replay, Sampler):
        return replay.replace(inner=out_of_order(replay.inner))
    return replay.replace(in_order=False) if isinstance(replay, Replay) else replay


class NStep(Sampler):
    """Stores single steps and returns `n` consecutive ones as one. Sutton & Barto 2018, 7.1.

    The reward is the discounted sum over the window, and next_obs and last are those of its end.
    `discount` is the product of the window's discounts without one factor gamma, which the
    algorithm applies. A window ends early at the end of the episode, also of one agent that is cut
    alone, and at the newest stored step.
    """

    n: int = static(default=3)
    gamma: float = 0.99

    def usable(self, state: ReplayState, index: Any) -> Any:
        return self.inner.usable(state, window(state, index, self.n)).all(0)

    def at(self, state: ReplayState, index: Any, change: Change = unchanged) -> Step:
        steps = self.inner.at(state, window(state, index, self.n), change)
        return joined(steps, stored(state, index, self.n), self.gamma)


@jax.jit
def joined(steps: Step, there: Array, gamma: Array) -> Step:
    """Joins windows [n, ...] into steps [...]; `there` [n, ...] marks rows that are stored."""
    within = together(steps, there)  # [n, ...]
    factor = jnp.where(within, gamma * steps.discount, 1.0)  # [n, ...]
    before = jnp.concatenate([jnp.ones_like(factor[:1]), factor[:-1]]).cumprod(0)
    weight = ops.expand_like(within * before, steps.reward)  # 0 beyond the window's end
    end = within.sum(0) - 1

    def at_end(x: Array) -> Array:
        place = ops.expand_like(end, x[0])[None]
        return jnp.take_along_axis(x, place, 0)[0]

    return jax.tree.map(lambda x: x[0], steps)._replace(
        reward=ops.weighted(weight, steps.reward).sum(0),
        discount=steps.discount[0] * factor[1:].prod(0),
        next_obs=jax.tree.map(at_end, steps.next_obs),
        last=at_end(steps.last),
    )


class NextAction(Sampler):
    """Adds `next_action` to the extras, and `next_known`: whether it was taken in next_obs.

    It is not known at the end of an episode and at the newest stored step.
    """

    def at(self, state: ReplayState, index: Any, change: Change = unchanged) -> Step:
        after = window(state, index, 2)[1]
        steps, following = (self.inner.at(state, rows, change) for rows in (index, after))
        known = ~steps.last & ~following.first & stored(state, index, 2)[1]
        more = {"next_action": following.action, "next_known": known}
        return steps._replace(extras={**steps.extras, **more})


class Prioritized(Sampler):
    """Draws items in proportion to (td_error + epsilon)^alpha; new items get the largest so far.

    Schaul et al. 2016, arXiv:1511.05952, section 3. Steps get `weight` in their extras, the
    importance weight (1 / (N P))^beta divided by the largest in the batch, unless whoever joins
    batches of several replays does that. The algorithm must report `td_error` [B] for each batch.
    """

    alpha: float = 0.6
    beta: float = 0.4
    epsilon: float = 1e-3
    normalized: bool = static(default=True)  # whether weights are divided by the largest

    def init(self, items: Any, lead: tuple[int, ...] = (), stride: int = 1) -> ReplayState:
        state = self.inner.init(items, lead, stride)
        return state.replace(priorities=Priorities.zeros(state.capacity, lead, self.on_host))

    def filled(self, rows: dict[str, Any], layout: Any, lead: tuple[int, ...]) -> ReplayState:
        """All items have the same priority."""
        state = self.inner.filled(rows, layout, lead)
        count = next(iter(rows.values())).shape[0]
        fresh = lambda: Priorities.zeros(count, (), self.on_host)
        one = fresh().set(np.arange(count), fresh().largest)
        repeated = lambda x: jnp.broadcast_to(x, (*lead, *x.shape)) if lead else x
        return state.replace(priorities=jax.tree.map(repeated, one))

    def add(self, state: ReplayState, items: Any) -> ReplayState:
        count = jax.tree.leaves(items)[0].shape[0]
        new = state.priorities.set(state.cursor + jnp.arange(count), state.priorities.largest)
        return self.inner.add(state, items).replace(priorities=new)

    def index(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> Any:
        drawn = state.priorities.draw(key, shape)
        return (np if self.on_host else jnp).minimum(drawn, state.size - 1)

    def at(self, state: ReplayState, index: Any, change: Change = unchanged) -> Step:
        steps = self.inner.at(state, index, change)
        priority = state.priorities[index]
        xp = np if self.on_host else jnp
        known = priority > 0  # priority 0: replaced by another item
        share = xp.where(known, priority, 1.0) / xp.maximum(state.priorities.total, 1e-30)
        weight = xp.where(known, (state.size * share) ** -self.beta, 0.0)
        if self.normalized:
            weight = weight / xp.maximum(weight.max(-1, keepdims=True), 1e-30)
        return steps._replace(extras={**steps.extras, "weight": weight})

    def learned(self, state: ReplayState, index: Any, td_error: Any) -> ReplayState:
        if td_error is None:
            raise ConfigError(
                "this algorithm reports no td_error to prioritise by; set priority 0."
            )
        usable, xp = self.usable(state, index), np if self.on_host else jnp
        new = xp.where(usable, self.priority(xp.asarray(td_error), xp), 0.0)
        return state.replace(priorities=state.priorities.set(index, new))

    def priority(self, td_error: Any, xp: Any = jnp) -> Any:
        """(|td_error| + epsilon)^alpha; errors that are not finite or beyond LARGEST count as 0.

        Such an update was discarded, so the item should rarely be drawn again.
        """
        size = xp.abs(td_error)
        size = xp.where(size <= LARGEST, size, 0.0)
        return xp.minimum((size + self.epsilon) ** self.alpha, HUGE)
