"""Torsos for continuous control: features [..., I] -> features [..., width], for any head.

Each is the body of a published network. The layers that they use come first.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from parl.core.types import Array
from parl.models.initialization import orthogonal
from parl.models.mlp import Activation
from parl.models.norms import BatchNorm, Dropout, RMSNorm, unit


class UnitDense(nn.Module):
    """A linear layer whose columns are kept at norm 1: see modes.project. No bias by default."""

    features: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("unit_kernel", orthogonal(1.0), (x.shape[-1], self.features))
        x = x @ kernel
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,))
        return x


class WeightNormDense(nn.Module):
    """A linear layer with columns scale * v / |v|. Salimans & Kingma 2016, arXiv:1602.07868, eq. 2.

    Direction and length are learned separately; the initial length is that of v.
    """

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        length = lambda key: jnp.sqrt((kernel**2).sum(0))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return x @ unit(kernel, axis=0) * self.param("scale", length) + bias


class Scaler(nn.Module):
    """A learned factor per feature: it starts at `start` with the learning dynamics of `scale`."""

    start: float
    scale: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.constant(self.scale)
        factor = self.param("factor", init, (x.shape[-1],))
        return x * factor * (self.start / self.scale)


class DropoutMLP(nn.Module):
    """Dense, dropout, layer norm, activation: Hiraoka et al. 2022, arXiv:2110.02034, fig. 1."""

    hidden: tuple[int, ...]
    rate: float = 0.01
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for size in self.hidden:
            x = Dropout(self.rate)(nn.Dense(size)(x))
            x = self.activation(nn.LayerNorm()(x))
        return x


class BatchNormMLP(nn.Module):
    """Batch renormalisation of the input and after every activation.

    Bhatt et al. 2024, arXiv:1902.05605.
    """

    hidden: tuple[int, ...]
    renorm_after: int = 100_000  # batches; until then plain batch normalisation
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = BatchNorm(renorm_after=self.renorm_after)(x)
        for size in self.hidden:
            x = self.activation(nn.Dense(size)(x))
            x = BatchNorm(renorm_after=self.renorm_after)(x)
        return x


class SimBa(nn.Module):
    """Residual blocks x + MLP(LayerNorm(x)) and a final layer norm.

    Lee et al. 2025, arXiv:2410.09754, section 4; the blocks' hidden layer is 4 * width.
    """

    width: int
    blocks: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        he = nn.initializers.he_normal()
        x = nn.Dense(self.width, kernel_init=orthogonal(1.0))(x)
        for _ in range(self.blocks):
            y = nn.relu(nn.Dense(4 * self.width, kernel_init=he)(nn.LayerNorm()(x)))
            x = x + nn.Dense(self.width, kernel_init=he)(y)
        return nn.LayerNorm()(x)


class SimBaV2(nn.Module):
    """SimBa on the unit sphere: weights and features have norm 1, and blocks interpolate.

    Lee et al. 2025, arXiv:2502.15280, section 4: appending the constant `shift` preserves the
    magnitude of the input, linear maps have unit columns, and residual connections become a learned
    interpolation between a block's input and output.
    """

    width: int
    blocks: int
    shift: float = 3.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size = math.sqrt(2 / self.width)
        x = jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), self.shift)], -1)
        x = unit(Scaler(size, size)(UnitDense(self.width)(unit(x))))
        for _ in range(self.blocks):
            y = Scaler(size / 2, size / 2)(UnitDense(4 * self.width)(x))
            y = unit(UnitDense(self.width)(nn.relu(y) + 1e-8))
            x = unit(x + Scaler(1 / (self.blocks + 1), self.width**-0.5)(y - x))
        return x


class SimBaV2Head(nn.Module):
    """A scaled layer of unit columns, followed by a linear output layer with a bias."""

    features: int
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Scaler(1.0, 1.0)(UnitDense(self.width)(x))
        return UnitDense(self.features, use_bias=True)(x)


class FlashTorso(nn.Module):
    """Batch-normalised inverted bottlenecks with unit columns, and a final RMS norm.

    Kim et al. 2026, arXiv:2604.04539, section 4; the blocks' hidden layer is 4 * width.
    """

    width: int
    blocks: int = 2

    @nn.compact
    def __call__(self, x: Array) -> Array:
        norm = lambda x: BatchNorm(epsilon=1e-5, unit=True)(x)
        x = UnitDense(self.width)(norm(x))
        for _ in range(self.blocks):
            y = nn.relu(norm(UnitDense(4 * self.width)(x)))
            x = x + nn.relu(norm(UnitDense(self.width)(y)))
        return RMSNorm(unit=True)(x)
