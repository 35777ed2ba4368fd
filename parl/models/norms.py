"""Normalisation of features and dropout.

These modules take no flag for training: statistics are updated if their collection is mutable, and
dropout is active if it is given a key. See parl/models/modes.py.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl.core.types import Array

STATISTICS = "batch_stats"  # the collection of running moments


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last. Ioffe & Szegedy 2015, arXiv:1502.03167.

    In training it uses the batch's moments and updates the running ones; otherwise the running
    ones.

    With `renorm_after` >= 0 it is batch renormalisation, Ioffe 2017, arXiv:1702.03275, algorithm 1,
    from that many batches on: the batch's moments are corrected towards the running ones by at most
    a factor `r_max` in the standard deviation and `d_max` standard deviations in the mean.
    """

    momentum: float = 0.99  # weight of the old value in a running moment
    epsilon: float = 1e-3
    renorm_after: int = -1  # batches; -1: never
    r_max: float = 3.0
    d_max: float = 5.0
    unit: bool = False  # keep (scale, bias) at norm sqrt(features): see modes.project

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size, prefix = x.shape[-1], "unit_" if self.unit else ""
        scale = self.param(f"{prefix}scale", nn.initializers.ones, (size,))
        bias = self.param(f"{prefix}bias", nn.initializers.zeros, (size,))
        mean = self.variable(STATISTICS, "mean", jnp.zeros, (size,))
        var = self.variable(STATISTICS, "var", jnp.ones, (size,))
        batches = self.variable(STATISTICS, "batches", jnp.zeros, ())
        if self.is_initializing() or not self.is_mutable_collection(STATISTICS):
            return self.standardize(x, mean.value, var.value) * scale + bias
        axes = tuple(range(x.ndim - 1))
        now_mean, now_var = x.mean(axes), x.var(axes)
        x = self.standardize(x, now_mean, now_var)
        if self.renorm_after >= 0:
            r, d = self.correction(now_mean, now_var, mean.value, var.value)
            x = jnp.where(batches.value >= self.renorm_after, x * r + d, x)
        follow = lambda old, new: self.momentum * old + (1 - self.momentum) * new
        mean.value, var.value = follow(mean.value, now_mean), follow(var.value, now_var)
        batches.value = batches.value + 1
        return x * scale + bias

    def standardize(self, x: Array, mean: Array, var: Array) -> Array:
        """x centred and scaled."""
        return (x - mean) * jax.lax.rsqrt(var + self.epsilon)

    def correction(
        self, now_mean: Array, now_var: Array, mean: Array, var: Array
    ) -> tuple[Array, Array]:
        """r and d of Ioffe 2017, without gradients."""
        spread = jnp.sqrt(var + self.epsilon)
        r = jnp.clip(jnp.sqrt(now_var + self.epsilon) / spread, 1 / self.r_max, self.r_max)
        d = jnp.clip((now_mean - mean) / spread, -self.d_max, self.d_max)
        return jax.lax.stop_gradient((r, d))


class RMSNorm(nn.Module):
    """Features divided by their root mean square. Zhang & Sennrich 2019, arXiv:1910.07467."""

    epsilon: float = 1e-6
    unit: bool = False  # keep the scale at norm sqrt(features): see modes.project

    @nn.compact
    def __call__(self, x: Array) -> Array:
        name = "unit_scale" if self.unit else "scale"
        scale = self.param(name, nn.initializers.ones, (x.shape[-1],))
        return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + self.epsilon) * scale


class Dropout(nn.Module):
    """Zeroes features with probability `rate` and scales the others to preserve the mean.

    Srivastava et al. 2014. Without a key for "dropout" it does nothing.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if not self.rate or not self.has_rng("dropout"):
            return x
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, x.shape)
        return jnp.where(keep, x / (1 - self.rate), 0.0)


def unit(x: Array, axis: int = -1) -> Array:
    """x scaled to Euclidean norm 1 along an axis; zeros stay zeros."""
    # not jnp.linalg.norm: its gradient at 0 is NaN
    return x * jax.lax.rsqrt(jnp.maximum((x**2).sum(axis, keepdims=True), 1e-16))
