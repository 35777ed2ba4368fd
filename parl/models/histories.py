"""Recurrent networks that are called as feed-forward ones, on observations with their history.

An algorithm that learns from single steps calls its networks on obs [B, *O]. Given obs that carry
the memory before them, `AtStep`, or the window they are from, `InWindow`, it learns and acts with
memory and is not changed. Shapes: T time, B batch.
"""

from dataclasses import dataclass
from typing import Any

import jax
from flax import struct

from parl.core.types import Array, Params, Step, Window, static
from parl.models.recurrent import one_step


class AtStep(struct.PyTreeNode):
    """Observations and what each network remembers before them."""

    obs: Any  # [B, *O]
    memory: dict[str, Any]  # [B, ...] by the name of the network


class InWindow(struct.PyTreeNode):
    """The observations [T * B] of a window with time in front, or what they led to."""

    window: Window  # before [burn_in, B, ...], steps [T, B, ...], memory [B, ...] by the name
    after: bool = static(default=False)  # next_obs in place of obs


@dataclass(frozen=True)
class WithHistory:
    """A recurrent network, called with observations of the kinds above.

    The network is called with (obs [T, B, *O], first [T, B], memory [B, ...], *inputs [T, B, ...]);
    it may have further inputs, an action. Outputs are [B, ...] and [T * B, ...].
    """

    network: Any  # a Model
    name: str  # of the network, under which its memory is found
    ahead: int = 0  # leading axes of the outputs before the batch, such as an ensemble's

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        """Memory [*batch_shape, ...] at the start of an episode."""
        return self.network.memory(batch_shape)

    def init(self, key: Array, obs: Any, *inputs: Any) -> Params:
        """Parameters for obs [B, *O] and further inputs [B, ...]."""
        obs, first = one_step(obs)
        inputs = tuple(x[None] for x in inputs)
        return self.network.init(key, obs, first, self.memory(first.shape[1:]), *inputs)

    def apply(self, params: Params, obs: Any, *inputs: Any, method: Any = None) -> Any:
        """Outputs for an AtStep or an InWindow, and for sequences those of the network."""
        if isinstance(obs, InWindow):
            return self.over(params, obs, *inputs)
        if isinstance(obs, AtStep):
            return self.step(params, obs, *inputs)[0]
        return self.network.apply(params, obs, *inputs)

    def step(self, params: Params, seen: AtStep, *inputs: Any) -> tuple[Any, Any]:
        """(outputs, next memory), without any reset."""
        memory, inputs = seen.memory[self.name], tuple(x[None] for x in inputs)
        outputs, memories = self.network.apply(params, *one_step(seen.obs), memory, *inputs)
        at = (*[slice(None)] * self.ahead, 0)
        return jax.tree.map(lambda x: x[at], outputs), jax.tree.map(lambda x: x[0], memories)

    def over(self, params: Params, seen: InWindow, *inputs: Any) -> Any:
        """Outputs [T * B, ...], with a burn-in that has no gradient.

        Each next_obs is seen with the memory of its own episode.
        """
        window = seen.window
        taken = lambda steps: (steps.action,) * len(inputs)  # for memory only

        def unroll(steps: Step, memory: Any, *inputs: Any) -> tuple[Any, Any]:
            return self.network.apply(params, steps.obs, steps.first, memory, *inputs)

        memory = window.memory[self.name]
        if len(window.before.first):
            memories = unroll(window.before, memory, *taken(window.before))[1]
            memory = jax.lax.stop_gradient(jax.tree.map(lambda x: x[-1], memories))
        if seen.after:
            memories = unroll(window.steps, memory, *taken(window.steps))[1]
            flat = lambda x: x.reshape(-1, *x.shape[2:])
            obs, memories = jax.tree.map(flat, (window.steps.next_obs, memories))
            return self.step(params, AtStep(obs, {self.name: memories}), *inputs)[0]
        lead = window.there.shape
        inputs = tuple(x.reshape(*lead, *x.shape[1:]) for x in inputs)
        ahead = self.ahead
        flat = lambda x: x.reshape(*x.shape[:ahead], -1, *x.shape[ahead + 2 :])
        return jax.tree.map(flat, unroll(window.steps, memory, *inputs)[0])
