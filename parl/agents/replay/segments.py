"""Windows of consecutive steps, with the recurrent memory that acting had.

Kapturowski et al. 2019 (R2D2), section 3. `Prioritized(Segments(Replay(capacity)))` draws them by
priority.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.agents.replay.ring import Change, ReplayState, unchanged
from parl.agents.replay.sampling import Sampler
from parl.core.draws import Source, integers
from parl.core.errors import ConfigError
from parl.core.types import Window, static


class Segments(Sampler):
    """Stores single steps and returns windows of `length` consecutive ones of an environment.

    A window starts anywhere, but where fewer than `length` steps follow it starts as much earlier:
    it never reads beyond the newest step or, where adds are of any environments, beyond its add. It
    may cover several episodes, so that memory has to be reset at `first`; `Window.one_episode`
    masks all but the first of them. The first `burn_in` steps are apart. What acting had in the
    extras as `memory`, its memory before each step, is returned for the window's first step only.

    An episode that opens without the end of the one before it, as after a restart of environments,
    or the other way round, ends the window: the steps from there on are not `there`.
    """

    length: int = static(default=40)  # steps, burn-in included
    burn_in: int = static(default=0)

    def init(self, items: Any, lead: tuple[int, ...] = (), stride: int = 1) -> ReplayState:
        """An empty ring. Raises ConfigError where no window would ever be whole."""
        check_burn_in(self.length, self.burn_in)
        state = self.inner.init(items, lead, stride)
        if (steps := state.capacity // stride) < self.length:
            raise ConfigError(
                f"windows of {self.length} steps do not fit into a replay that holds {steps} of "
                "each environment; raise --capacity."
            )
        if not state.in_order and (steps := state.count // stride) < self.length:
            raise ConfigError(
                f"windows of {self.length} steps do not fit into the rollouts of {steps} steps of "
                "an asynchronous run, which do not go on where the ones before them ended; raise "
                "--length."
            )
        return state

    def filled(self, rows: dict[str, Any], layout: Any, lead: tuple[int, ...]) -> ReplayState:
        check_burn_in(self.length, self.burn_in)
        return self.inner.filled(rows, layout, lead)

    def index(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> Any:
        """The first rows [*shape] of windows, drawn uniformly among the whole ones."""
        span = (self.length - 1) * state.stride
        starts = (state.size - span).clip(1) if state.in_order else state.count - span  # of a run
        runs = 1 if state.in_order else state.size // state.count
        number = integers(key, shape, runs * starts)
        number = np.asarray(number) if self.on_host else number
        row = number // starts * state.count + number % starts
        return (oldest(state) + row) % state.capacity

    def usable(self, state: ReplayState, index: Any) -> Any:
        rows, _ = self.window(state, index)
        return self.inner.usable(state, rows).all(-1)

    def at(self, state: ReplayState, index: Any, change: Change = unchanged) -> Window:
        rows, stored = self.window(state, index)
        axis = np.ndim(index)
        steps = self.inner.at(state, rows, windows_last(change, axis))
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
        capacity, stride = state.capacity, state.stride
        older = (index - oldest(state)) % capacity // stride  # steps of the same environment
        newer = (state.cursor - 1 - index) % capacity // stride
        if not state.in_order:  # only those of the same add
            older = index % state.count // stride
            newer = state.count // stride - 1 - older
        earlier = (self.length - 1 - newer).clip(0, older)
        offsets = np.arange(self.length, dtype="int32")
        rows = (index - earlier * stride)[..., None] + offsets * stride
        return rows % capacity, offsets <= (newer + earlier)[..., None]


def windows_last(change: Change, axis: int) -> Change:
    """A change of windows [L, ...] for those whose steps lie along `axis`."""
    if change is unchanged:
        return change
    to_front = lambda items: jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), items)
    back = lambda items: jax.tree.map(lambda x: jnp.moveaxis(x, 0, axis), items)
    return lambda items: back(change(to_front(items)))


def oldest(state: ReplayState) -> Any:
    """[] the row of the oldest item."""
    return (state.cursor - state.size) % state.capacity


def check_burn_in(length: int, burn_in: int) -> None:
    """Raises ConfigError where a burn-in leaves nothing of a window to learn from."""
    if not 0 <= burn_in < length:
        raise ConfigError(
            f"a burn-in of {burn_in} steps leaves nothing to learn from in windows of {length}; "
            f"set --burn-in below --window."
        )
