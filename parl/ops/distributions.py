"""Distributions over actions, as pytrees of their parameters.

Leading axes [...] are batch axes. `log_prob`, `entropy` and `kl` return [...], one number per
action, whatever the shape of an action.
"""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from parl.core.spec import MultiDiscrete
from parl.core.types import Array
from parl.ops.values import ILLEGAL, draw, mask_illegal, select, split_choices

LOG_2PI = math.log(2 * math.pi)
LARGEST_LOGIT = 1e37  # replaces infinity; differences of two such logits stay finite
LOG_RANGE = 30.0  # standard deviations are clipped to e^-30 .. e^30 in computations
FARTHEST = 1e15  # standard deviations from the mean: its square and gradients stay finite


class Distribution(struct.PyTreeNode):
    """The output of a policy head. All but TanhNormal also have `entropy()` and `kl(other)`."""

    def mode(self) -> Array:
        """The greedy action [..., *A]."""
        raise NotImplementedError  # abstract

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        """An action [..., *A] and its log-probability [...]."""
        raise NotImplementedError  # abstract

    def log_prob(self, action: Array) -> Array:
        """Log-probability or log-density [...] of an action [..., *A]."""
        raise NotImplementedError  # abstract

    def sample(self, key: Array) -> Array:
        """An action [..., *A]."""
        return self.sample_and_log_prob(key)[0]


class Categorical(Distribution):
    """A choice among n; actions [...] int32.

    A logit of -inf means probability 0, whose logarithm is ILLEGAL. If all logits are -inf or all
    choices are masked, all choices are equally likely.
    """

    logits: Array  # [..., n], not necessarily normalised

    def masked(self, legal: Array) -> "Categorical":
        """Gives illegal actions [..., n] probability 0; entropy and gradients stay finite."""
        return Categorical(mask_illegal(self.logits, legal))

    def mode(self) -> Array:
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        action = draw(key, self.finite)
        return action, self.log_prob(action)

    def log_prob(self, action: Array) -> Array:
        return select(self.log_probs, action)

    def entropy(self) -> Array:
        """-sum p log p, shape [...]."""
        return -jnp.sum(self.probs * self.log_probs, axis=-1)

    def kl(self, other: "Categorical") -> Array:
        """KL(self || other) = sum p (log p - log q), shape [...]."""
        return jnp.sum(self.probs * (self.log_probs - other.log_probs), axis=-1)

    @property
    def log_probs(self) -> Array:
        """Log-probabilities [..., n] of all actions, at least ILLEGAL."""
        return jnp.maximum(jax.nn.log_softmax(self.finite), ILLEGAL)

    @property
    def probs(self) -> Array:
        """Probabilities [..., n] of all actions."""
        return jax.nn.softmax(self.finite)

    @property
    def finite(self) -> Array:
        """The logits [..., n] without infinities."""
        return jnp.clip(self.logits, -LARGEST_LOGIT, LARGEST_LOGIT)


class MultiCategorical(Distribution):
    """D independent choices, the i-th among n_i; actions [..., D] int32."""

    logits: tuple[Array, ...]  # D arrays [..., n_i]

    def masked(self, legal: Array) -> "MultiCategorical":
        """The same with the concatenated masks of the choices, [..., sum of n_i]."""
        space = MultiDiscrete(tuple(part.shape[-1] for part in self.logits))
        pairs = zip(self.logits, split_choices(legal, space), strict=True)
        return MultiCategorical(tuple(mask_illegal(*pair) for pair in pairs))

    def mode(self) -> Array:
        return jnp.stack([part.mode() for part in self.parts], axis=-1)

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        keys = jax.random.split(key, len(self.logits))
        action = [part.sample(k) for part, k in zip(self.parts, keys, strict=True)]
        action = jnp.stack(action, axis=-1)
        return action, self.log_prob(action)

    def log_prob(self, action: Array) -> Array:
        if action.shape[-1] != len(self.logits):
            raise ValueError(f"action {action.shape} must end in an axis of {len(self.logits)}.")
        return _total(part.log_prob(action[..., i]) for i, part in enumerate(self.parts))

    def entropy(self) -> Array:
        """Sum of the parts' entropies, shape [...]."""
        return _total(part.entropy() for part in self.parts)

    def kl(self, other: "MultiCategorical") -> Array:
        """KL(self || other), the sum over the parts, shape [...]."""
        return _total(p.kl(q) for p, q in zip(self.parts, other.parts, strict=True))

    @property
    def parts(self) -> tuple[Categorical, ...]:
        """The D independent choices."""
        return tuple(Categorical(logits) for logits in self.logits)


class Normal(Distribution):
    """Independent normals summed over the last axis; actions [..., A] float, unbounded.

    All results and their gradients are finite for any standard deviation.
    """

    mean: Array  # [..., A]
    log_std: Array  # [..., A], or fewer leading axes: broadcast to mean
    used: Any = None  # [..., A] bool, components that are not padding; None: all

    def masked(self, used: Array) -> "Normal":
        """Marks the components [..., A] that are used; the rest is padding and contributes 0."""
        return Normal(self.mean, self.log_std, used)

    def mode(self) -> Array:
        return self.mean

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        # Use the noise itself: (x - mean) / std would lose it to rounding if std is small.
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.from_noise(noise), self._log_density(noise)

    def from_noise(self, noise: Array) -> Array:
        """The action [..., A] for standard normal noise [..., A]."""
        return self.mean + bounded_exp(self.log_std) * noise

    def log_prob(self, action: Array) -> Array:
        return self._log_density(self._noise(action))

    def entropy(self) -> Array:
        """Sum of log std + log(2 pi e) / 2, shape [...]."""
        log_std = jnp.broadcast_to(self.log_std, self.mean.shape)
        return self._total(log_std + 0.5 * (LOG_2PI + 1))

    def kl(self, other: "Normal") -> Array:
        """KL(self || other), shape [...]."""
        variance_ratio = bounded_exp(self.log_std - other.log_std) ** 2
        distance = other._noise(self.mean) ** 2
        log_ratio = other.log_std - self.log_std
        return self._total(log_ratio + 0.5 * (variance_ratio + distance - 1))

    def _noise(self, action: Array) -> Array:
        """The noise [..., A] that gives an action [..., A]."""
        noise = (action - self.mean) * bounded_exp(-self.log_std)
        return jnp.clip(noise, -FARTHEST, FARTHEST)

    def _log_density(self, noise: Array) -> Array:
        return self._total(-0.5 * (noise**2 + LOG_2PI) - self.log_std)

    def _total(self, parts: Array) -> Array:
        """The sum [...] over the used components [..., A]."""
        return jnp.sum(parts if self.used is None else jnp.where(self.used, parts, 0.0), axis=-1)


class TanhNormal(Distribution):
    """The tanh of a Normal; actions [..., A] in (-1, 1). Haarnoja et al. 2018, arXiv:1812.05905.

    log p(a) = log N(x) - sum log(1 - tanh(x)^2) with a = tanh(x), appendix C, eq. 26. Entropy has
    no closed form; -log_prob of a sample estimates it.
    """

    mean: Array  # [..., A] before the tanh
    log_std: Array  # [..., A], or fewer leading axes: broadcast to mean

    def mode(self) -> Array:
        return jnp.tanh(self.mean)

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        # The action may round to 1, where only the value before the tanh still has a density.
        x, log_prob = self._normal.sample_and_log_prob(key)
        return jnp.tanh(x), log_prob - _log_slope(x)

    def from_noise(self, noise: Array) -> Array:
        """The action [..., A] for standard normal noise [..., A]."""
        return jnp.tanh(self._normal.from_noise(noise))

    def log_prob(self, action: Array) -> Array:
        limit = 1 - jnp.finfo(action.dtype).eps
        x = jnp.arctanh(jnp.clip(action, -limit, limit))
        return self._normal.log_prob(x) - _log_slope(x)

    @property
    def _normal(self) -> Normal:
        return Normal(self.mean, self.log_std)


def bounded_exp(x: Array) -> Array:
    """exp(x) with x clipped to [-LOG_RANGE, LOG_RANGE]."""
    return jnp.exp(jnp.clip(x, -LOG_RANGE, LOG_RANGE))


def _log_slope(x: Array) -> Array:
    """Sum over the last axis of log(1 - tanh(x)^2), without the cancellation at large |x|."""
    return jnp.sum(2 * (math.log(2) - x - jax.nn.softplus(-2 * x)), axis=-1)


def _total(terms: Iterable[Array]) -> Array:
    return jnp.sum(jnp.stack(list(terms)), axis=0)
