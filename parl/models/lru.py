"""A linear recurrent unit, whose memory of a whole sequence is one associative scan.

Orvieto et al. 2023, arXiv:2303.06349. Resets lie within the scan, as in Lu et al. 2023,
arXiv:2303.03982. Complex numbers are pairs of real ones. Shapes: T time, [...] batch, F features, N
complex numbers of memory, which are as many as outputs.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl import ops
from parl.core.types import Array

Pair = tuple[Array, Array]  # real and imaginary part

NORMAL = nn.initializers.lecun_normal()


class LRU(nn.Module):
    """Features [T, ..., F] -> outputs [T, ..., N], gated and added to the projected features.

    x_t = lambda x_{t-1} + gamma B u_t, y_t = Re(C x_t) + D u_t, where |lambda| < 1 by its form and
    gamma = sqrt(1 - |lambda|^2): eq. 5 and 7. The output is u + GLU(y).
    """

    size: int  # N
    smallest: float = 0.9  # |lambda| at first, as drawn from the ring between these
    largest: float = 0.999
    phase: float = 2 * math.pi  # largest angle of lambda at first

    @nn.compact
    def __call__(self, features: Array, first: Array, memory: Pair) -> tuple[Array, Pair]:
        """(outputs, memories after each step); `first` [T, ...] resets memory [..., N]."""
        nu = self.param("nu", self.of_radius, (self.size,))
        theta = self.param("theta", self.of_angle, (self.size,))
        radius, angle = jnp.exp(-jnp.exp(nu)), jnp.exp(theta)
        u = nn.Dense(self.size)(features)
        gamma = jnp.sqrt(1 - radius**2)
        inputs = (nn.Dense(self.size, use_bias=False)(u) * gamma for _ in range(2))
        going = 1.0 - ops.expand_like(first, u)
        factor = going * (radius * jnp.cos(angle)), going * (radius * jnp.sin(angle))
        x = recurrence(factor, tuple(inputs), memory)
        y = nn.Dense(self.size, use_bias=False, kernel_init=NORMAL)(jnp.concatenate(x, -1))
        y = y + u * self.param("skip", nn.initializers.normal(1.0), (self.size,))
        gate, value = jnp.split(nn.Dense(2 * self.size)(nn.gelu(y)), 2, -1)
        return u + value * nn.sigmoid(gate), x

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Pair:
        """Memory 0 [..., N] for inputs [..., F]."""
        zeros = jnp.zeros((*input_shape[:-1], self.size))
        return zeros, jnp.copy(zeros)

    def of_radius(self, key: Array, shape: tuple[int, ...]) -> Array:
        """log(-log |lambda|) of numbers uniform on the ring: lemma 3.2."""
        low, high = self.smallest**2, self.largest**2
        return jnp.log(-0.5 * jnp.log(jax.random.uniform(key, shape, minval=low, maxval=high)))

    def of_angle(self, key: Array, shape: tuple[int, ...]) -> Array:
        """log of uniform angles."""
        return jnp.log(self.phase * jax.random.uniform(key, shape, minval=1e-4))


def times(a: Pair, b: Pair) -> Pair:
    """The product of complex numbers."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def plus(a: Pair, b: Pair) -> Pair:
    """The sum of complex numbers."""
    return a[0] + b[0], a[1] + b[1]


def recurrence(factor: Pair, inputs: Pair, start: Pair) -> Pair:
    """x_t = factor_t x_{t-1} + inputs_t [T, ...], with x_{-1} = start [...]."""
    opening = plus(times(jax.tree.map(lambda x: x[0], factor), start), (inputs[0][0], inputs[1][0]))
    if len(inputs[0]) == 1:
        return opening[0][None], opening[1][None]
    inputs = tuple(x.at[0].set(o) for x, o in zip(inputs, opening, strict=True))

    def joined(early: tuple[Pair, Pair], late: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
        return times(late[0], early[0]), plus(times(late[0], early[1]), late[1])

    return jax.lax.associative_scan(joined, (factor, inputs))[1]
