"""Parts of the off-policy actor-critics: critic regression, delayed policies, optimiser steps.

Shapes: B batch, C critics.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from parl import ops
from parl.core.model import Model
from parl.core.types import Array, Metrics, Net, Params, Step, descend
from parl.models import modes
from parl.ops.value_distributions import ValueDistribution, as_values


def init_net(optimizer: optax.GradientTransformation, params: Params) -> Net:
    """Initial parameters, projected to their fixed norms, with a fresh optimiser state."""
    params = modes.project(params)
    return Net(params, optimizer.init(params))


def learn(
    optimizer: optax.GradientTransformation, loss: Callable, net: Net, *args: Any
) -> tuple[Net, Metrics]:
    """One optimiser step on loss(params, *args) -> (scalar, (metrics, statistics)).

    Replaces the statistics and projects weights of fixed norm back to it.
    """
    info: Any
    net, info = descend(optimizer, loss, net, *args)
    metrics, statistics = info
    return net._replace(params=modes.renew(modes.project(net.params), statistics)), metrics


def critic_regression(
    values: ValueDistribution, target: Array, batch: Step, active: Array | None = None
) -> tuple[Array, Metrics]:
    """The loss of values [C, B] for a constant target [B, ...]: mean over B, sum over C.

    The batch's extras may hold importance weights `weight` [B]. The metric `td_error` [B] is the
    size of the error for prioritised replay; for plain numbers it is the root mean square over
    critics. With several agents B is [B, N], and only `active` ones [B, N] bool contribute.
    """
    losses = values.loss(jax.lax.stop_gradient(target))  # [C, B]
    if active is not None:
        losses = ops.masked(losses, active)
        loss, td_error = losses.sum() / jnp.maximum(active.sum(), 1), losses.mean((0, -1))
        q = ops.mean(values.mean.mean(0), active)
        return loss, {"critic_loss": loss, "q": q, "td_error": jnp.sqrt(2 * td_error)}
    loss = (losses * batch.extras.get("weight", 1.0)).mean(-1).sum()
    td_error = jnp.sqrt(2 * losses.mean(0))
    return loss, {"critic_loss": loss, "q": values.mean.mean(), "td_error": td_error}


def joint_pass(
    critic: Model, params: Params, batch: Step, next_action: Array, key: Array
) -> tuple[ValueDistribution, ValueDistribution, Params]:
    """(values of the batch, values of the next actions, new statistics) from one pass; [C, B].

    Batch normalisation then covers both, so that neither is out of distribution: Bhatt et al. 2024,
    arXiv:1902.05605, section 3.
    """
    both = lambda a, b: jnp.concatenate([a, b])
    obs = jax.tree.map(both, batch.obs, batch.next_obs)
    values, new = modes.train(critic, params, obs, both(batch.action, next_action), key=key)
    size = next_action.shape[0]
    half = lambda part: jax.tree.map(lambda x: x[:, part], as_values(values))
    return half(slice(size)), half(slice(size, None)), new


def every_n(
    period: int, count: Array, step: Callable[[], tuple[Any, Metrics]], unchanged: Any
) -> tuple[Any, Metrics]:
    """`step()` if `period` divides `count` [] int32, else `unchanged`, of the same structure.

    Metrics are multiplied by the period, and 0 without a step, so that their mean over many calls
    is correct.
    """
    if period == 1:
        return step()
    shapes = jax.eval_shape(step)[1]
    zeros = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    due = in_lockstep(count) % period == 0
    result, metrics = jax.lax.cond(due, step, lambda: (unchanged, zeros()))
    return result, jax.tree.map(lambda x: x * period, metrics)


@jax.custom_batching.custom_vmap
def in_lockstep(count: Array) -> Array:
    """A counter that is equal for all members of a vmap, as one unbatched number.

    A `cond` on it remains a branch; on a batched counter it would compute both sides.
    """
    return count


@in_lockstep.def_vmap
def _one_for_all(axis_size: int, in_batched: list[bool], count: Array) -> tuple[Array, bool]:
    return (count[0] if in_batched[0] else count), False
