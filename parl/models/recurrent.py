"""Recurrent networks, and functions that run any model over time.

A model is recurrent if it has `memory(batch_shape)`; it is then called on whole sequences,

    model.apply(params, obs [T, B, ...], first [T, B], memory [B, ...])
        -> (outputs [T, B, ...], memories after each step [T, B, ...])

and resets its memory where `first` marks the start of an episode. Algorithms call the functions
below and need not know the kind of a model: for a feed-forward model memory is `()`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl import ops
from parl.core.model import Model
from parl.core.spec import Box, Space
from parl.core.types import Array, Params
from parl.models import modes
from parl.models.encoder import Encoder, with_masks
from parl.models.initialization import orthogonal
from parl.models.lru import LRU
from parl.models.mlp import MLP

CELLS: dict[str, Any] = {  # by the number of features; initialisation works under vmap
    "gru": partial(nn.GRUCell, recurrent_kernel_init=orthogonal(1.0)),
    "lstm": partial(nn.OptimizedLSTMCell, recurrent_kernel_init=orthogonal(1.0)),
    "lru": LRU,
}
STEPS_BETWEEN_CUTS = (
    8  # average steps between cuts, above which evaluating only the cut rows is faster
)


class Recurrent(nn.Module):
    """Encoder and torso, then a recurrent cell, then a head over the cell's output.

    `head` is any network of parl.models over the space `cell_output(H)`; masks such as `legal` are
    passed on to it, and further inputs [T, B, ...]. Only a cell that is no LRU runs step by step.
    """

    observation_space: Any
    torso: MLP
    cell: nn.RNNCellBase | LRU  # of H features, e.g. nn.GRUCell(64)
    head: nn.Module
    layer_norm: bool = False  # in the convolutions of images

    @nn.compact
    def __call__(self, obs: Any, first: Array, memory: Any, *inputs: Any) -> tuple[Any, Any]:
        def step(cell: nn.RNNCellBase, memory: Any, x: tuple[Array, Array]) -> tuple[Any, Any]:
            features, first = x
            memory = ops.where_first(first, self.memory(features.shape[:-1]), memory)
            memory, output = cell(memory, features)
            return memory, (output, memory)

        encoder = Encoder(self.observation_space, self.layer_norm)
        features = self.torso(encoder(obs))
        if isinstance(self.cell, LRU):
            output, memories = self.cell(features, first, memory)
        else:
            scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
            _, (output, memories) = scan(self.cell, memory, (features, first))
        return self.head(with_masks(output, obs), *inputs), memories

    @nn.nowrap
    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        """Memory [*batch_shape, H] at the start of an episode; a pair of them for an LSTM."""
        return self.cell.initialize_carry(jax.random.key(0), (*batch_shape, 1))


def cell_output(size: int) -> dict[str, Space]:
    """The observation space of a head that follows a cell of `size` features."""
    return {"output": Box((size,))}


def is_recurrent(model: Model) -> bool:
    """Whether a model has memory."""
    return callable(getattr(model, "memory", None))


def memory_of(model: Any, batch_shape: tuple[int, ...]) -> Any:
    """A model's memory [*batch_shape, ...] at the start of an episode, () if it has none."""
    return model.memory(batch_shape) if is_recurrent(model) else ()


def init(model: Model, key: Array, obs: Any) -> Params:
    """Parameters for obs [B, *O]."""
    if not is_recurrent(model):
        return modes.init(model, key, obs)
    obs, first = one_step(obs)
    return modes.init(model, key, obs, first, memory_of(model, first.shape[1:]))


def step(
    model: Model, params: Params, obs: Any, memory: Any, key: Array | None = None
) -> tuple[Any, Any]:
    """(output, next memory) for obs [B, *O] and memory [B, ...], without any reset.

    With a key the model draws its noise.
    """
    apply = model.apply if key is None else partial(modes.perturb, model, key=key)
    if not is_recurrent(model):
        return apply(params, obs), memory
    return jax.tree.map(lambda x: x[0], apply(params, *one_step(obs), memory))


def unroll(model: Model, params: Params, obs: Any, first: Array, memory: Any) -> tuple[Any, Any]:
    """(outputs [T, B, ...], memories after each step [T, B, ...]) of a sequence.

    obs [T, B, *O]; first [T, B] bool resets memory before that step; memory [B, ...] is the one
    before the first step.
    """
    if not is_recurrent(model):
        return model.apply(params, obs), memory
    return model.apply(params, obs, first, memory)


def following(
    apply: Callable[[Any, Any], tuple[Any, Any]],
    next_obs: Any,
    memories: Any,
    outputs: Any,
    cut: Array,
) -> Any:
    """Outputs [T, B, ...] for each next_obs [T, B, *O], without gradients.

    `apply` is `step` of a model: (next_obs [B, *O], memory [B, ...]) -> (outputs [B, ...], memory).
    `memories` [T, B, ...] are those after each step, so each next_obs is evaluated with the memory
    of its own episode. `outputs` [T, B, ...] are the model's outputs for obs. The output at t + 1
    is also that for next_obs at t, unless an episode was `cut` [T, B] in between. The model is
    evaluated again only at cuts and at the end of the sequence.
    """
    lead, flat = cut.shape, lambda x: jnp.asarray(x).reshape(-1, *x.shape[2:])
    parts = jax.lax.stop_gradient((next_obs, memories, outputs))
    next_obs, memories, outputs = jax.tree.map(flat, parts)
    asked = jnp.asarray(cut).at[-1].set(True).ravel()
    room = (1 + lead[0] // STEPS_BETWEEN_CUTS) * lead[1]

    def ask(rows: Any) -> Any:
        output, _ = apply(*jax.tree.map(lambda x: x[rows], (next_obs, memories)))
        return jax.lax.stop_gradient(output)

    def some() -> Any:
        rows = jnp.flatnonzero(asked, size=room, fill_value=asked.size)  # beyond: not written
        answers, shift = ask(rows), lambda x: jnp.roll(x, -lead[1], 0)
        return jax.tree.map(lambda x, y: shift(x).at[rows].set(y), outputs, answers)

    found = jax.lax.cond(asked.sum() > room, lambda: ask(slice(None)), some)
    return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), found)


def one_step(obs: Any) -> tuple[Any, Array]:
    """obs [B, *O] as a sequence [1, B, *O], and `first` [1, B], all false."""
    obs = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)
    return obs, jnp.zeros((1, jax.tree.leaves(obs)[0].shape[1]), bool)
