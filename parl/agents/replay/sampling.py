"""Ways to sample a replay that go beyond single items drawn uniformly; each wraps another.

`Prioritized(NStep(Replay(capacity)))` has them all.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl import ops
from parl.agents.replay.priorities import Priorities
from parl.agents.replay.ring import ReplayState, instead
from parl.core.errors import ConfigError
from parl.core.types import Array, Step, static

LARGEST = 1e9  # error; beside larger ones a sum of float32 forgets all other priorities
HUGE = 1e20  # of a priority, whatever the exponent: float32 has room for the sum of many


class Sampler(struct.PyTreeNode):
    """A replay around another, which does whatever is not overridden."""

    inner: Any  # a Replay or a Wrapper

    def init(self, items: Any, lead: tuple[int, ...] = (), stride: int = 1) -> ReplayState:
        return self.inner.init(items, lead, stride)

    def add(self, state: ReplayState, items: Any) -> ReplayState:
        return self.inner.add(state, items)

    def index(self, state: ReplayState, key: Array, shape: tuple[int, ...]) -> Any:
        return self.inner.index(state, key, shape)

    def take(self, state: ReplayState, index: Any) -> Any:
        return self.at(state, instead(index, self.usable(state, index)))

    def usable(self, state: ReplayState, index: Any) -> Any:
        return self.inner.usable(state, index)

    def at(self, state: ReplayState, index: Any) -> Any:
        return self.inner.at(state, index)

    def learned(self, state: ReplayState, index: Any, td_error: Any) -> ReplayState:
        return self.inner.learned(state, index, td_error)

    def sample(self, state: ReplayState, key: Array, shape: tuple[int, ...]) -> Any:
        return self.take(state, self.index(state, key, shape))

    @property
    def capacity(self) -> int:
        """Items that it holds."""
        return self.inner.capacity

    @property
    def on_host(self) -> bool:
        return self.inner.on_host


class NStep(Sampler):
    """Single steps are stored and `n` of them in a row given back as one. Sutton & Barto 2018, 7.1.

    The reward is the discounted sum of the window's, next_obs and last are those at its end, and
    `discount` holds all of the window's discounts but one factor gamma, which the algorithm brings.
    A window ends early where the episode does, of all or of one of several agents that is cut
    alone, and at the newest step there is.
    """

    n: int = static(default=3)
    gamma: float = 0.99

    def usable(self, state: ReplayState, index: Any) -> Any:
        return self.inner.usable(state, self.window(state, index)).all(0)

    def at(self, state: ReplayState, index: Any) -> Step:
        steps = self.inner.at(state, self.window(state, index))
        offsets = jnp.arange(self.n).reshape(-1, *(1,) * index.ndim)
        capacity = next(iter(state.rows.values())).shape[0]
        newer = (state.cursor - 1 - index) % capacity  # rows that were added after it
        return self.joined(steps, offsets * state.stride <= newer)

    def window(self, state: ReplayState, index: Any) -> Any:
        """The rows [n, ...] of the steps from rows [...] on, those of other episodes included."""
        offsets = np.arange(self.n).reshape(-1, *(1,) * index.ndim)
        capacity = next(iter(state.rows.values())).shape[0]
        return (index + offsets * state.stride) % capacity

    def joined(self, steps: Step, there: Array) -> Step:
        """Windows [n, ...] as one step each [...]; `there` [n, ...]: that far they were added."""
        steps = jax.tree.map(jnp.asarray, steps)
        goes_on = ~steps.last[:-1] & ~steps.first[1:] & there[1:] & ~ops.cut(steps)[:-1]
        within = jnp.concatenate([jnp.ones_like(there[:1]), goes_on]).cumprod(0)  # [n, ...] 1 or 0
        factor = jnp.where(within, self.gamma * steps.discount, 1.0)  # [n, ...]
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


class Prioritized(Sampler):
    """Items are drawn in proportion to (td_error + epsilon)^alpha, new ones as the largest so far.

    Schaul et al. 2016, arXiv:1511.05952, section 3. Steps get `weight` in their extras, the
    importance weight (1 / (N P))^beta over the largest of the batch. The algorithm has to report
    `td_error` [B] for each batch.
    """

    alpha: float = 0.6
    beta: float = 0.4
    epsilon: float = 1e-3

    def init(self, items: Any, lead: tuple[int, ...] = (), stride: int = 1) -> ReplayState:
        state = self.inner.init(items, lead, stride)
        capacity = next(iter(state.rows.values())).shape[-2]
        return state.replace(priorities=Priorities.zeros(capacity, lead, self.on_host))

    def add(self, state: ReplayState, items: Any) -> ReplayState:
        count = jax.tree.leaves(items)[0].shape[0]
        new = state.priorities.set(state.cursor + jnp.arange(count), state.priorities.largest)
        return self.inner.add(state, items).replace(priorities=new)

    def index(self, state: ReplayState, key: Array, shape: tuple[int, ...]) -> Any:
        drawn = state.priorities.draw(key, shape)
        return (np if self.on_host else jnp).minimum(drawn, state.size - 1)

    def at(self, state: ReplayState, index: Any) -> Step:
        steps = self.inner.at(state, index)
        priority = state.priorities[index]
        known = priority > 0  # all but what was replaced
        share = jnp.where(known, priority, 1.0) / state.priorities.total
        weight = jnp.where(known, (state.size * share) ** -self.beta, 0.0)
        weight = weight / jnp.maximum(weight.max(-1, keepdims=True), 1e-30)
        return steps._replace(extras={**steps.extras, "weight": weight})

    def learned(self, state: ReplayState, index: Any, td_error: Any) -> ReplayState:
        if td_error is None:
            raise ConfigError(
                "this algorithm reports no td_error to prioritise by; set priority 0."
            )
        usable = self.usable(state, index)
        new = jnp.where(usable, self.priority(td_error), 0.0)
        return state.replace(priorities=state.priorities.set(index, new))

    def priority(self, td_error: Array) -> Array:
        """(|td_error| + epsilon)^alpha; errors that are not finite or beyond LARGEST count as 0.

        Of such an update nothing was learned, and the item is to be drawn seldom.
        """
        size = jnp.abs(td_error)
        size = jnp.where(size <= LARGEST, size, 0.0)
        return jnp.minimum((size + self.epsilon) ** self.alpha, HUGE)
