"""Windows of the ring: consecutive steps of one environment, and which of them belong together.

Shapes: L steps of a window, [...] the rows that windows start from.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from parl import ops
from parl.agents.replay.ring import ReplayState
from parl.core.types import Array, Step


def window(state: ReplayState, index: Any, length: int) -> Any:
    """The rows [L, ...] of `length` steps from rows `index` [...] on.

    They may cross episodes and the newest stored step, see `together`.
    """
    return (index + offsets(state, index, length)) % state.capacity


def stored(state: ReplayState, index: Any, length: int) -> Any:
    """Whether the rows of `window` hold what followed the first one: [L, ...] bool.

    Behind the newest stored step the ring holds older ones. Where adds are of any environments,
    only the rows of one add follow each other.
    """
    steps = offsets(state, index, length)
    there = steps <= (state.cursor - 1 - index) % state.capacity
    if state.in_order:
        return there
    return there & (index % state.count + steps < state.count)


def together(steps: Step, there: Any) -> Array:
    """Which steps [L, ...] of windows are stored and of the first one's episode: [L, ...] bool.

    An episode also ends for one of several agents that is cut alone.
    """
    return unbroken(steps.first, steps.last | ops.cut(steps), there)


def unbroken(first: Any, last: Any, there: Any) -> Array:
    """`together` from the flags [L, ...] of windows: where episodes begin and end."""
    first, last, there = map(jnp.asarray, (first, last, there))
    goes_on = ~last[:-1] & ~first[1:] & there[1:]
    start = jnp.ones_like(goes_on, shape=(1, *goes_on.shape[1:]))
    return jnp.concatenate([start, goes_on]).cumprod(0).astype(bool)


def offsets(state: ReplayState, index: Any, length: int) -> Any:
    """Rows from the first step of a window to each: [L, 1, ...]."""
    return np.arange(length).reshape(-1, *(1,) * np.ndim(index)) * state.stride
