"""Learning from windows of replay with networks that have memory.

Memory before a window is what acting had, brought up to date by the burn-in without a gradient:
Kapturowski et al. 2019 (R2D2), section 3. Shapes: T time, B batch.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from parl import ops
from parl.algorithms.shared.minibatches import swap_axes
from parl.core.model import Model
from parl.core.types import Array, Params, Rollout, Window
from parl.models import recurrent

LARGEST_SHARE = 0.9  # of the largest error in the priority of a window; the rest is of the mean


def with_memory(rollout: Rollout, fresh: Any) -> Rollout:
    """The rollout with acting's memory in its extras; `fresh` [T, B, ...] where there is none.

    Steps of a data set have none.
    """
    extras = {"memory": fresh} | rollout.steps.extras
    return rollout._replace(steps=rollout.steps._replace(extras=extras))


def in_time(window: Window) -> Window:
    """A window with time in front: before [burn_in, B, ...], steps and there [T, B, ...]."""
    before, steps, there = swap_axes((window.before, window.steps, window.there))
    return window._replace(before=before, steps=steps, there=there)


def ends(window: Window) -> Array:
    """[T, B] bool, where no step of the same episode follows in a window with time in front."""
    follows = jnp.concatenate([window.there[1:], jnp.zeros_like(window.there[:1])])
    return window.steps.last | ~follows


def cuts(window: Window) -> Array:
    """[T, B] bool, where next_obs is not the next step's obs and has a value, as `ops.cut`."""
    return ends(window) & (window.steps.discount > 0)


def memory_before(model: Model, params: Params, window: Window, memory: Any) -> Any:
    """A model's memory [B, ...] before the steps to learn from, without a gradient.

    `memory` is the one before the burn-in.
    """
    if not len(window.before.first) or not recurrent.is_recurrent(model):
        return memory
    obs, first = window.before.obs, window.before.first
    memories = recurrent.unroll(model, params, obs, first, memory)[1]
    return jax.lax.stop_gradient(jax.tree.map(lambda x: x[-1], memories))


def outputs(model: Model, params: Params, window: Window, memory: Any) -> tuple[Any, Any]:
    """A model's outputs [T, B, ...] at obs and, without gradients, at next_obs."""
    memory = memory_before(model, params, window, memory)
    steps = window.steps
    found, memories = recurrent.unroll(model, params, steps.obs, steps.first, memory)
    step = partial(recurrent.step, model, params)
    return found, recurrent.following(step, steps.next_obs, memories, found, cuts(window))


def mean_loss(losses: Array, window: Window) -> Array:
    """The mean [] of losses [T, B] over the steps that are there, of windows by their weight."""
    there = window.there
    each = ops.masked(losses, there).sum(0) / jnp.maximum(there.sum(0), 1)
    return (each * window.extras.get("weight", 1.0)).mean()


def window_error(error: Array, window: Window) -> Array:
    """The size [B] of a window's errors [T, B] for prioritised replay: 0.9 max + 0.1 mean."""
    size = ops.masked(jnp.abs(error), window.there)
    mean = size.sum(0) / jnp.maximum(window.there.sum(0), 1)
    return LARGEST_SHARE * size.max(0) + (1 - LARGEST_SHARE) * mean
