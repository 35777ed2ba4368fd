"""Several epochs over one rollout, in minibatches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from parl import ops
from parl.core.errors import ConfigError
from parl.core.sharding import as_batch
from parl.core.types import Array, Metrics


def sweep(
    step: Callable[[Any, Any], tuple[Any, Metrics]],
    carry: Any,
    data: Any,
    key: Array,
    epochs: int,
    minibatches: int,
) -> tuple[Any, Metrics]:
    """(carry, mean metrics) after step(carry, minibatch) -> (carry, metrics) on each minibatch.

    `data` has leaves [M, ...]; every epoch splits it into `minibatches` random parts. Raises
    ConfigError if M is not divisible by `minibatches`.
    """
    count = jax.tree.leaves(data)[0].shape[0]
    if count % minibatches:
        raise ConfigError(
            f"a rollout of {count} steps or sequences cannot be split into {minibatches} equal "
            f"minibatches: collect a multiple of {minibatches}, or set minibatches=1."
        )

    def one(carry: Any, index: Any) -> tuple[Any, Metrics]:
        return step(carry, as_batch(jax.tree.map(lambda x: x[index], data)))

    def epoch(carry: Any, key: Array) -> tuple[Any, Metrics]:
        if minibatches == 1:
            return one(carry, slice(None))  # all of it, in any order
        order = ops.permutation(key, count)
        return jax.lax.scan(one, carry, order.reshape(minibatches, -1))

    carry, metrics = jax.lax.scan(epoch, carry, jax.random.split(key, epochs))
    return carry, jax.tree.map(jnp.mean, metrics)


def as_samples(tree: Any, sequences: bool = False) -> Any:
    """Leaves [T, B, ...] as samples [T * B, ...], or as `sequences` [B, T, ...]."""
    if sequences:
        return swap_axes(tree)
    return jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *x.shape[2:]), tree)


def swap_axes(tree: Any) -> Any:
    """Leaves [T, B, ...] as [B, T, ...], and back."""
    return jax.tree.map(lambda x: jnp.asarray(x).swapaxes(0, 1), tree)
