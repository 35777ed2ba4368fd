"""Windows of consecutive steps, with the recurrent memory that acting had.

Kapturowski et al. 2019 (R2D2), section 3. `Prioritized(Segments(Replay(capacity)))` draws them by
priority.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.agents.replay.ring import ReplayState
from parl.agents.replay.sampling import Sampler
from parl.core.errors import ConfigError
from parl.core.types import Array, Window, static


class Segments(Sampler):
    """Stores single steps and returns windows of `length` consecutive ones of an environment.

    A window starts anywhere, but where fewer than `length` steps follow it starts as much earlier:
    it never reads beyond the newest step. It may cover several episodes, so that memory has to be
    reset at `first`; `Window.one_episode` masks all but the first of them. The first `burn_in`
    steps are apart. What acting had in the extras as `memory`, its memory before each step, is
    returned for the window's first step only.

    An episode that opens without the end of the one before it, as after a restart of environments,
    or the other way round, ends the window: the steps from there on are not `there`.
    """

    length: int = static(default=40)  # steps, burn-in included
    burn_in: int = static(default=0)

    def init(self, items: Any, lead: tuple[int, ...] = (), stride: int = 1) -> ReplayState:
        """An empty ring. Raises ConfigError where no window would ever be whole."""
        check_burn_in(self.length, self.burn_in)
        state = self.inner.init(items, lead, stride)
        steps = capacity_of(state) // stride
        if steps < self.length:
            raise ConfigError(
                f"windows of {self.length} steps do not fit into a replay that holds {steps} of "
                "each environment; raise --capacity."
            )
        return state

    def filled(self, rows: dict[str, Any], layout: Any, lead: tuple[int, ...]) -> ReplayState:
        check_burn_in(self.length, self.burn_in)
        return self.inner.filled(rows, layout, lead)

    def index(self, state: ReplayState, key: Array, shape: tuple[int, ...]) -> Any:
        """The first rows [*shape] of windows, drawn uniformly among the whole ones."""
        span = (self.length - 1) * state.stride
        number = jax.random.randint(key, shape, 0, (state.size - span).clip(1))
        number = np.asarray(number) if self.on_host else number
        return (oldest(state) + number) % capacity_of(state)

    def usable(self, state: ReplayState, index: Any) -> Any:
        rows, stored = self.window(state, index)
        return (self.inner.usable(state, rows) | ~stored).all(-1)

    def at(self, state: ReplayState, index: Any) -> Window:
        rows, stored = self.window(state, index)
        steps, axis = self.inner.at(state, rows), np.ndim(index)
        extras = dict(steps.extras)
        memory = extras.pop("memory", ())
        steps = steps._replace(extras=extras)
        follows = steps.first[..., 1:] == steps.last[..., :-1]
        xp = np if self.on_host else jnp
        unbroken = xp.concatenate([xp.ones_like(stored[..., :1]), follows], -1)
        there = stored & (unbroken.cumprod(-1) > 0)
        part = lambda tree, where: jax.tree.map(lambda x: x[(*[slice(None)] * axis, where)], tree)
        learned = slice(self.burn_in, None)
        return Window(
            before=part(steps, slice(self.burn_in)),
            steps=part(steps, learned),
            memory=part(memory, 0),
            there=there[..., learned],
            extras={},
        )

    def window(self, state: ReplayState, index: Any) -> tuple[Any, Any]:
        """(rows [..., length] of the windows for rows [...], whether each is stored)."""
        capacity, stride = capacity_of(state), state.stride
        older = (index - oldest(state)) % capacity // stride  # steps of the same environment
        newer = (state.cursor - 1 - index) % capacity // stride
        earlier = (self.length - 1 - newer).clip(0, older)
        offsets = np.arange(self.length, dtype="int32")
        rows = (index - earlier * stride)[..., None] + offsets * stride
        return rows % capacity, offsets <= (newer + earlier)[..., None]


def capacity_of(state: ReplayState) -> int:
    """The number of rows of the ring."""
    return next(iter(state.rows.values())).shape[-2]


def oldest(state: ReplayState) -> Any:
    """[] the row of the oldest item."""
    return (state.cursor - state.size) % capacity_of(state)


def check_burn_in(length: int, burn_in: int) -> None:
    """Raises ConfigError where a burn-in leaves nothing of a window to learn from."""
    if not 0 <= burn_in < length:
        raise ConfigError(
            f"a burn-in of {burn_in} steps leaves nothing to learn from in windows of {length}; "
            f"set --burn-in below --window."
        )
