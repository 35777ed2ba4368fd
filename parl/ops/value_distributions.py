"""Forms of the value that a network predicts: a number, quantiles or a histogram.

All have a `mean`, turn their value of the next state into a regression target (`backup`) and
measure their distance from such a target (`loss`), so that one critic loss serves them all. Leading
axes [...] are free: [C, B] for C critics, [B] for one, [B, A] for actions. Nothing here stops a
gradient.
"""

from functools import partial
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
from flax import struct

from parl.core.types import Array, static
from parl.ops.distributions import Categorical
from parl.ops.finite import weighted
from parl.ops.tree import expand_like
from parl.ops.values import huber, select

Scalar = float | Array
V = TypeVar("V", bound="ValueDistribution")


class ValueDistribution(struct.PyTreeNode):
    """The output of a value head."""

    @property
    def mean(self) -> Array:
        """Expected value [...]."""
        raise NotImplementedError  # abstract

    def backup(self, reward: Array, discount: Array, cost: Scalar = 0.0) -> Array:
        """The target reward + discount * (X - cost), all [...], in the form `loss` takes."""
        raise NotImplementedError  # abstract

    def loss(self, target: Array) -> Array:
        """Distance [...] from a target; the target may lack leading axes, such as the critics'."""
        raise NotImplementedError  # abstract

    def error(self, target: Array) -> Array:
        """The size of the error [...], by which replay is prioritised."""
        return jnp.sqrt(2 * self.loss(target))

    def mixture(self, weights: Array) -> Self:
        """The value [...] of a choice with probabilities `weights` [..., A] among values [..., A].

        Quantiles are averaged level by level, as in Vieillard et al. 2020, arXiv:2007.14430.
        """
        raise NotImplementedError  # abstract


class Point(ValueDistribution):
    """A number, trained by half the squared error."""

    value: Array  # [...]

    @property
    def mean(self) -> Array:
        return self.value

    def backup(self, reward: Array, discount: Array, cost: Scalar = 0.0) -> Array:
        return reward + weighted(discount, self.value - cost)

    def loss(self, target: Array) -> Array:
        return 0.5 * (self.value - target) ** 2

    def error(self, target: Array) -> Array:
        return jnp.abs(self.value - target)

    def mixture(self, weights: Array) -> Self:
        return self.replace(value=(weights * self.value).sum(-1))


class Huber(Point):
    """A number, trained by the Huber loss."""

    delta: Scalar = 1.0  # errors are squared below it, linear beyond

    def loss(self, target: Array) -> Array:
        return huber(self.value - target, self.delta)


class Quantiles(ValueDistribution):
    """K quantiles at (k + 1/2) / K. Dabney et al. 2018, arXiv:1710.10044; targets are atoms."""

    atoms: Array  # [..., K]

    @property
    def levels(self) -> Array:
        """The share of outcomes below each quantile, [K] or [..., K]."""
        count = self.atoms.shape[-1]
        return (jnp.arange(count) + 0.5) / count

    @property
    def mean(self) -> Array:
        return self.atoms.mean(-1)

    def backup(self, reward: Array, discount: Array, cost: Scalar = 0.0) -> Array:
        expand = lambda x: jnp.asarray(x)[..., None]
        return expand(reward) + weighted(expand(discount), self.atoms - expand(cost))

    def loss(self, target: Array) -> Array:
        """Quantile Huber loss, averaged over the K quantiles and the target's M atoms [..., M].

        Kuznetsov et al. 2020, arXiv:2005.04269, section 3.3: |tau - (error < 0)| * huber(error).
        """
        error = target[..., None, :] - self.atoms[..., :, None]  # [..., K, M]
        weight = jnp.abs(self.levels[..., :, None] - (error < 0))
        return (weight * huber(error)).mean((-2, -1))

    def mixture(self, weights: Array) -> Self:
        return self.replace(atoms=(weights[..., None] * self.atoms).sum(-2))


class ImplicitQuantiles(Quantiles):
    """Quantiles at levels that the network was asked for. Dabney et al. 2018, arXiv:1806.06923.

    With drawn levels the loss is eq. 3 but for its sum over levels, which is a mean here.
    """

    taus: Array  # [..., K], the levels

    @property
    def levels(self) -> Array:
        return self.taus

    def mixture(self, weights: Array) -> Self:
        mixed = (weights[..., None] * self.atoms).sum(-2)
        return self.replace(atoms=mixed, taus=self.taus[..., 0, :])  # those of all actions


class Histogram(ValueDistribution):
    """Probabilities of K evenly spaced values; targets are probabilities [..., K] too.

    Bellemare et al. 2017, arXiv:1707.06887: the target distribution is projected onto the support
    (eq. 7) and learned by cross entropy.
    """

    logits: Array  # [..., K]
    low: float = static(default=-10.0)
    high: float = static(default=10.0)

    @property
    def support(self) -> Array:
        """The K values."""
        return jnp.linspace(self.low, self.high, self.logits.shape[-1])

    @property
    def width(self) -> float:
        """The distance between neighbouring values.

        Raises ValueError if there are not two values.
        """
        count = self.logits.shape[-1]
        if count < 2 or not self.low < self.high:
            raise ValueError(
                f"a histogram needs at least two values with low < high, not {count} from "
                f"{self.low} to {self.high}."
            )
        return (self.high - self.low) / (count - 1)

    @property
    def mean(self) -> Array:
        return (Categorical(self.logits).probs * self.support).sum(-1)

    def backup(self, reward: Array, discount: Array, cost: Scalar = 0.0) -> Array:
        atoms = Quantiles(self.support).backup(reward, discount, cost)
        return self.project(atoms, Categorical(self.logits).probs)

    def project(self, atoms: Array, probs: Array) -> Array:
        """Projects atoms [..., M] with probabilities `probs` [..., M] onto the support: [..., K].

        The probability of an atom is shared between its two neighbours in proportion to nearness.
        """
        position = (jnp.clip(atoms, self.low, self.high) - self.low) / self.width  # [..., M]
        share = partial(share_by_nearness, count=self.logits.shape[-1])
        scatter = partial(share_by_scatter, count=self.logits.shape[-1])
        return jax.lax.platform_dependent(position, probs, cpu=scatter, default=share)

    def loss(self, target: Array) -> Array:
        return -(target * Categorical(self.logits).log_probs).sum(-1)

    def mixture(self, weights: Array) -> Self:
        parts = Categorical(self.logits).log_probs + jnp.log(weights)[..., None]
        return self.replace(logits=jax.nn.logsumexp(parts, -2))


def share_by_nearness(position: Array, probs: Array, count: int) -> Array:
    """Adds probs [..., M] at positions in 0 .. count - 1 to their neighbours: [..., count].

    Computes all M * count products in a fixed order; a scatter on an accelerator has no fixed
    order.
    """
    nearness = 1 - jnp.abs(position[..., None, :] - jnp.arange(count)[:, None])
    return (jnp.maximum(nearness, 0) * probs[..., None, :]).sum(-1)


def share_by_scatter(position: Array, probs: Array, count: int) -> Array:
    """The same with 2 M additions, which is faster on a CPU."""

    def share(position: Array, probs: Array) -> Array:
        below = jnp.clip(position.astype(jnp.int32), 0, count - 2)
        above = probs * (position - below)
        return jnp.zeros(count, probs.dtype).at[below].add(probs - above).at[below + 1].add(above)

    return jnp.vectorize(share, signature="(m),(m)->(k)")(position, probs)


class TwoHot(Histogram):
    """A histogram whose target is only the target's mean, shared by the two nearest values.

    Schrittwieser et al. 2020, arXiv:1911.08265, app. F.
    """

    def backup(self, reward: Array, discount: Array, cost: Scalar = 0.0) -> Array:
        value = Point(self.mean).backup(reward, discount, cost)[..., None]
        return self.project(value, jnp.ones_like(value))


class SymlogTwoHot(TwoHot):
    """A histogram over values that are evenly spaced in symlog(x) = sign(x) log(1 + |x|).

    Hafner et al. 2023, arXiv:2301.04104, eq. 9 and 10; `low` and `high` are in symlog. The mean is
    that in symlog, mapped back, as in Hansen et al. 2024, arXiv:2310.16828.
    """

    @property
    def mean(self) -> Array:
        return symexp(super().mean)

    def backup(self, reward: Array, discount: Array, cost: Scalar = 0.0) -> Array:
        value = symlog(Point(self.mean).backup(reward, discount, cost))[..., None]
        return self.project(value, jnp.ones_like(value))


def symlog(x: Array) -> Array:
    """sign(x) log(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """The inverse of symlog."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


class HLGauss(Histogram):
    """A histogram whose target is a normal around the target's mean.

    Farebrother et al. 2024, arXiv:2403.03950, eq. 4: each value represents the interval around it,
    and the mass outside the support is dropped.
    """

    smoothing: float = static(default=0.75)  # standard deviation over width

    def backup(self, reward: Array, discount: Array, cost: Scalar = 0.0) -> Array:
        value = Point(self.mean).backup(reward, discount, cost)
        edges = jnp.append(self.support - self.width / 2, self.high + self.width / 2)
        value = jnp.clip(value, self.low, self.high)[..., None]
        cdf = jax.scipy.stats.norm.cdf((edges - value) / (self.smoothing * self.width))
        mass = jnp.diff(cdf)
        return mass / mass.sum(-1, keepdims=True)


def as_values(x: Array | ValueDistribution) -> ValueDistribution:
    """A critic's output as a ValueDistribution: plain arrays become Point."""
    return x if isinstance(x, ValueDistribution) else Point(x)


def mean_of(x: Array | ValueDistribution) -> Array:
    """The expected values [...] of a network's output."""
    return x.mean if isinstance(x, ValueDistribution) else x


def pick(values: Any, index: Array) -> Any:
    """The entries [...] of values [..., A], an array or a ValueDistribution, at index [...] int."""
    if not isinstance(values, ValueDistribution):
        return select(values, index)
    axis = jnp.ndim(index)
    take = lambda x: jnp.take_along_axis(x, expand_like(index, x), axis).squeeze(axis)
    return jax.tree.map(take, values)


def least(values: V) -> V:
    """For each entry, the value of the critic with the smallest mean: [C, ...] to [...].

    Fujimoto et al. 2018, arXiv:1802.09477, eq. 10, for distributions too.
    """
    chosen = values.mean.argmin(0)[None]  # [1, ...]

    def pick(x: Array) -> Array:
        index = chosen.reshape(chosen.shape + (1,) * (x.ndim - chosen.ndim))
        return jnp.take_along_axis(x, index, 0)[0]

    return jax.tree.map(pick, values)


def truncated_mixture(values: Quantiles, drop: int) -> Quantiles:
    """The pooled quantiles of C critics [C, ..., K] without the `drop` * C largest.

    Kuznetsov et al. 2020, arXiv:2005.04269, section 3.3: [..., C * (K - drop)].
    """
    critics, count = values.atoms.shape[0], values.atoms.shape[-1]
    if not 0 <= drop < count:
        raise ValueError(f"drop must lie in 0 .. {count - 1}, it is {drop}.")
    pooled = jnp.concatenate(list(values.atoms), -1)
    return Quantiles(jnp.sort(pooled)[..., : critics * (count - drop)])
