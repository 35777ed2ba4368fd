"""Exploration noise with memory, which `act` adds to an action or scales by its deviation.

A process is a frozen value with `start(batch_shape)`, the memory at the start of an episode, and a
call (key, memory, shape) -> (noise, memory) for noise of shape [*batch_shape, A]. All processes
except Ornstein-Uhlenbeck are standard normal at every step; they differ in the correlation of
steps.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.types import Array
from parl.ops.tree import expand_like

LADDER = 0.4  # base of the noises of many environments


class Noise(Protocol):
    """A random process."""

    def start(self, batch_shape: tuple[int, ...]) -> Any:
        """The memory before the first step, with leading axes `batch_shape`."""
        ...

    def __call__(self, key: Array, memory: Any, shape: tuple[int, ...]) -> tuple[Array, Any]:
        """The next step's noise, and the memory after it."""
        ...


@dataclass(frozen=True)
class White:
    """Independent steps; no memory."""

    def start(self, batch_shape: tuple[int, ...]) -> Any:
        return ()

    def __call__(self, key: Array, memory: Any, shape: tuple[int, ...]) -> tuple[Array, Any]:
        return jax.random.normal(key, shape), memory


def ladder(base: Array | float, spread: Array | float, place: Array) -> Array:
    """base^(spread place) [B], for places [B] from 0 to 1: from 1 down to base^spread.

    Environment i of N, at place i / (N - 1), explores with epsilon times that of epsilon: Horgan et
    al. 2018, arXiv:1803.00933, section 4.1, where epsilon is 0.4 and the spread 7.
    """
    return base ** (spread * place)


@dataclass(frozen=True, eq=False)
class Scaled:
    """The noise of another process times `factor` [B], one for each environment."""

    inner: Noise
    factor: Array

    @classmethod
    def apart(cls, inner: Noise, spread: Array | float, place: Array) -> "Scaled":
        """From all of the noise at place 0 down to 0.4^spread of it at place 1."""
        return cls(inner, ladder(LADDER, spread, place))

    def start(self, batch_shape: tuple[int, ...]) -> Any:
        return self.inner.start(batch_shape)

    def __call__(self, key: Array, memory: Any, shape: tuple[int, ...]) -> tuple[Array, Any]:
        noise, memory = self.inner(key, memory, shape)
        return expand_like(self.factor, noise) * noise, memory


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """x <- (1 - theta) x + N(0, 1); its standard deviation tends to 1 / sqrt(theta (2 - theta)).

    Uhlenbeck & Ornstein 1930, as in Lillicrap et al. 2016, arXiv:1509.02971 (theta = 0.15).
    """

    size: int  # A
    theta: float = 0.15

    def start(self, batch_shape: tuple[int, ...]) -> Array:
        return jnp.zeros((*batch_shape, self.size))

    def __call__(self, key: Array, memory: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        noise = (1 - self.theta) * memory + jax.random.normal(key, shape)
        return noise, noise


@dataclass(frozen=True)
class Colored:
    """Noise whose power falls as 1 / frequency^color: 0 white, 1 pink, 2 red.

    Eberhard et al. 2023 (openreview hQ9V5QN27eS) explore with it. It is generated step by step as
    in Kasdin 1995, doi:10.1109/5.381848, eq. 104: a moving average of white noise over `taps` steps
    with weights h_0 = 1, h_k = h_{k-1} (k - 1 + color / 2) / k, divided by its current standard
    deviation.
    """

    size: int  # A
    color: float = 1.0
    taps: int = 256  # past steps kept in memory

    @property
    def weights(self) -> np.ndarray:
        """h_0 .. h_{taps - 1}."""
        k = np.arange(1, self.taps)
        return np.cumprod(np.append(1.0, (k - 1 + self.color / 2) / k))

    def start(self, batch_shape: tuple[int, ...]) -> tuple[Array, Array]:
        past = jnp.zeros((*batch_shape, self.taps, self.size))  # white noise, newest first
        return past, jnp.zeros(batch_shape, jnp.int32)

    def __call__(
        self, key: Array, memory: tuple[Array, Array], shape: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, Array]]:
        past, time = memory
        new = jax.random.normal(key, shape)[..., None, :]
        past = jnp.concatenate([new, past[..., :-1, :]], -2)
        spread = np.sqrt(np.cumsum(self.weights**2))
        last = jnp.minimum(time, self.taps - 1)
        noise = jnp.einsum("k,...ka->...a", jnp.asarray(self.weights, jnp.float32), past)
        return noise / jnp.asarray(spread, jnp.float32)[last][..., None], (past, last + 1)


@dataclass(frozen=True)
class Repeated:
    """One draw held for n <= `longest` steps, with n drawn in proportion to n^-exponent.

    Kim et al. 2026, arXiv:2604.04539.
    """

    size: int  # A
    exponent: float = 2.0
    longest: int = 16

    def start(self, batch_shape: tuple[int, ...]) -> tuple[Array, Array]:
        return jnp.zeros((*batch_shape, self.size)), jnp.zeros(batch_shape, jnp.int32)

    def __call__(
        self, key: Array, memory: tuple[Array, Array], shape: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, Array]]:
        held, left = memory  # [..., A], [...] steps for which it is still held
        k_noise, k_length = jax.random.split(key)
        log_prob = -self.exponent * jnp.log(jnp.arange(1.0, self.longest + 1))
        length = 1 + jax.random.categorical(k_length, log_prob, shape=shape[:-1])
        over = left == 0
        noise = jnp.where(over[..., None], jax.random.normal(k_noise, shape), held)
        return noise, (noise, jnp.where(over, length, left).astype(jnp.int32) - 1)
