"""Linear layers with learned noise, for exploration without random actions."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl.core.types import Array


class NoisyDense(nn.Module):
    """A linear layer with factorised noise in its weights: [..., I] -> [..., features].

    Fortunato et al. 2018, arXiv:1706.10295, eq. 9 to 11. One draw under the name "noise" serves all
    inputs of a call. Without a key, and with sigma 0, it is the linear layer of the means.
    """

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    sigma: float = 0.5  # initial standard deviation times the root of the number of inputs

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size = x.shape[-1], self.features
        spread = nn.initializers.constant(self.sigma / math.sqrt(size[0]))
        kernel = self.param("kernel", self.kernel_init, size)
        bias = self.param("bias", nn.initializers.zeros, size[1:])
        kernel_spread = self.param("kernel_spread", spread, size)
        bias_spread = self.param("bias_spread", spread, size[1:])
        if self.has_rng("noise"):
            rows, columns = jnp.split(rooted_normal(self.make_rng("noise"), sum(size)), size[:1])
            kernel = kernel + kernel_spread * rows[:, None] * columns
            bias = bias + bias_spread * columns
        return x @ kernel + bias


def rooted_normal(key: Array, size: int) -> Array:
    """sign(x) sqrt|x| [size] of unit normals x."""
    x = jax.random.normal(key, (size,))
    return jnp.sign(x) * jnp.sqrt(jnp.abs(x))
