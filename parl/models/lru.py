"""A linear recurrent unit, whose memory of a sequence is an associative scan on accelerators.

Orvieto et al. 2023, arXiv:2303.06349. Resets lie within the scan, as in Lu et al. 2023,
arXiv:2303.03982. Complex numbers are pairs of real ones. Shapes: T time, [...] batch, F features, H
outputs, N = H / 2 complex numbers of memory.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl import ops
from parl.core.types import Array

Pair = tuple[Array, Array]  # real and imaginary part


class LRU(nn.Module):
    """Features [T, ..., F] -> outputs [T, ..., H].

    x_t = lambda x_{t-1} + gamma B u_t with |lambda| < 1 by its form and gamma = sqrt(1 -
    |lambda|^2): eq. 5 and 7. The output is gelu(Re(C x_t) + D u_t), with a full matrix D.
    """

    size: int  # H
    smallest: float = 0.9  # |lambda| at first, as drawn from the ring between these
    largest: float = 0.999
    phase: float = 2 * math.pi  # largest angle of lambda at first

    @property
    def numbers(self) -> int:
        """N."""
        return -(-self.size // 2)

    @nn.compact
    def __call__(self, features: Array, first: Array, memory: Pair) -> tuple[Array, Pair]:
        """(outputs, memories after each step); `first` [T, ...] resets memory [..., N]."""
        nu = self.param("nu", self.of_radius, (self.numbers,))
        theta = self.param("theta", self.of_angle, (self.numbers,))
        radius, angle = jnp.exp(-jnp.exp(nu)), jnp.exp(theta)
        factor = radius * jnp.cos(angle), radius * jnp.sin(angle)
        inputs = jnp.split(nn.Dense(2 * self.numbers, use_bias=False)(features), 2, -1)
        inputs = scaled(jnp.sqrt(1 - radius**2), (inputs[0], inputs[1]))
        going = 1.0 - ops.expand_like(first, features)
        x = recurrence(factor, going, inputs, memory)
        seen = jnp.concatenate([*x, features], -1)
        return nn.gelu(nn.Dense(self.size)(seen)), x

    @nn.nowrap
    def initialize_carry(self, key: Array, input_shape: tuple[int, ...]) -> Pair:
        """Memory 0 [..., N] for inputs [..., F]."""
        zeros = jnp.zeros((*input_shape[:-1], self.numbers))
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


@jax.custom_vjp
def recurrence(factor: Pair, going: Array, inputs: Pair, start: Pair) -> Pair:
    """x_t = going_t factor x_{t-1} + inputs_t [T, ..., N], with x_{-1} = start [..., N].

    `going` [T, ..., 1] is 0 where memory is reset, else 1, and has no gradient. Accelerators take
    few wide passes over all steps, CPUs one narrow step after another: each is the quicker there.
    """
    return jax.lax.platform_dependent(
        factor, going, inputs, start, cpu=step_by_step, default=doubling
    )


def forward(factor: Pair, going: Array, inputs: Pair, start: Pair) -> tuple[Pair, Any]:
    """The recurrence, and what its gradient needs."""
    x = recurrence(factor, going, inputs, start)
    return x, (factor, going, start, x)


def backward(kept: Any, gradient: Pair) -> tuple[Pair, Array, Pair, Pair]:
    """The gradient of the inputs follows the same recurrence from the last step to the first.

    Gradients of pairs are those of their real and imaginary parts, so that products are with
    conjugates.
    """
    factor, going, start, x = kept
    conjugate = factor[0], -factor[1]
    reverse = lambda tree: jax.tree.map(lambda x: x[::-1], tree)
    to_next = jnp.concatenate([going[1:], jnp.zeros_like(going[:1])])
    nothing = jax.tree.map(jnp.zeros_like, start)
    total = reverse(recurrence(conjugate, to_next[::-1], reverse(gradient), nothing))
    before = jax.tree.map(lambda s, x: jnp.concatenate([s[None], x[:-1]]), start, x)
    reached = scaled(going, total)
    of_factor = times((before[0], -before[1]), reached)
    first = jax.tree.map(lambda x: x[0], reached)
    over_steps = lambda x: x.sum(tuple(range(x.ndim - 1)))
    of_start = times(conjugate, first)
    return jax.tree.map(over_steps, of_factor), jnp.zeros_like(going), total, of_start


recurrence.defvjp(forward, backward)


def step_by_step(factor: Pair, going: Array, inputs: Pair, start: Pair) -> Pair:
    """The recurrence as a loop over T steps."""

    def step(x: Pair, now: tuple[Array, Pair]) -> tuple[Pair, Pair]:
        x = plus(scaled(now[0], times(factor, x)), now[1])
        return x, x

    return jax.lax.scan(step, start, (going, inputs))[1]


def doubling(factor: Pair, going: Array, inputs: Pair, start: Pair) -> Pair:
    """The recurrence as an associative scan.

    Each pass doubles the number of steps that x_t is the sum of, so that there are log2 T of them:
    Hillis and Steele 1986. As the factor [N] is the same at all steps, its powers are squares, and
    only `going` is multiplied along with x.
    """
    part = lambda tree, where: jax.tree.map(lambda x: x[where], tree)
    opening = plus(scaled(going[0], times(factor, start)), part(inputs, 0))
    later = part(inputs, slice(1, None))
    x: Any = jax.tree.map(lambda o, x: jnp.concatenate([o[None], x]), opening, later)
    distance = 1
    while distance < len(going):
        before = lambda x, by=distance: jnp.concatenate([jnp.zeros_like(x[:by]), x[:-by]])
        x = plus(x, scaled(going, times(factor, jax.tree.map(before, x))))
        going, factor = going * before(going), times(factor, factor)
        distance *= 2
    return x


def scaled(number: Array, a: Pair) -> Pair:
    """Complex numbers times real ones."""
    return number * a[0], number * a[1]
