"""Convolutional networks for images."""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl.core.types import Array

NARROW = 16  # channels below which products with each shift alone would be slower
PLAIN = contextvars.ContextVar("plain convolutions", default=False)


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Convolutions traced meanwhile are XLA's on every device: one operation, to be exported."""
    token = PLAIN.set(True)
    try:
        yield
    finally:
        PLAIN.reset(token)


class Conv(nn.Module):
    """Convolution without padding: images [..., H, W, C] -> [..., H', W', features].

    On a CPU it is computed as a sum of matrix products over shifted images, whose gradient is
    faster than that of XLA's strided convolutions.
    """

    features: int
    kernel: int  # pixels per side
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        divides = self.kernel % self.stride == 0
        by_products = divides and jax.default_backend() == "cpu" and not PLAIN.get()
        return (shifted_products if by_products else convolution)(x, kernel, self.stride) + bias


def convolution(x: Array, kernel: Array, stride: int) -> Array:
    """[..., H, W, C] and [K, K, C, O] -> [..., H', W', O], by XLA's convolution."""
    images = x.reshape(-1, *x.shape[-3:])
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "VALID", dimension_numbers=layout
    )
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def shifted_products(x: Array, kernel: Array, stride: int) -> Array:
    """The same with matrix products; the stride divides K.

    Each block of stride x stride pixels becomes one pixel with stride^2 times the channels. This
    leaves a convolution of stride 1: one matrix product for each of its shifts, or where pixels
    have few channels, one of all shifts side by side.
    """
    *lead, height, width, channels = x.shape
    shifts, block = kernel.shape[0] // stride, stride * stride * channels
    rows, columns = height // stride, width // stride
    x = x[..., : rows * stride, : columns * stride, :]
    x = x.reshape(*lead, rows, stride, columns, stride, channels)
    x = x.swapaxes(-4, -3).reshape(*lead, rows, columns, block)
    kernel = kernel.reshape(shifts, stride, shifts, stride, channels, -1)
    kernel = kernel.swapaxes(1, 2).reshape(shifts, shifts, block, -1)
    rows, columns = rows - shifts + 1, columns - shifts + 1
    shifted = [
        x[..., i : i + rows, j : j + columns, :] for i in range(shifts) for j in range(shifts)
    ]
    if block < NARROW:
        return jnp.concatenate(shifted, -1) @ kernel.reshape(shifts**2 * block, -1)
    products = [part @ kernel[n // shifts, n % shifts] for n, part in enumerate(shifted)]
    return sum(products[1:], products[0])


class Layer(NamedTuple):
    """A convolution."""

    channels: int
    kernel: int  # pixels per side
    stride: int = 1
    padded: bool = False  # by one pixel on each side

    def side(self, before: int) -> int:
        """Pixels per side of the output, given those of the input."""
        return (before + 2 * self.padded - self.kernel) // self.stride + 1


NATURE = Layer(32, 8, 4), Layer(64, 4, 2), Layer(64, 3)
CELLS = 100  # most pixels left of a large image; the paper's 84 x 84 leave 49


def layers_for(height: int, width: int) -> list[Layer]:
    """The paper's three convolutions, and more until at most CELLS pixels are left.

    The paper's kernels do not fit images with fewer than 36 pixels per side. Those get one 3x3
    convolution and are then halved until at most 49 pixels are left, as in the paper.
    """
    sides = height, width
    shrink = lambda layer: tuple(map(layer.side, sides))
    if min(sides) >= 36:
        layers = list(NATURE)
        for layer in layers:
            sides = shrink(layer)
        while math.prod(sides) > CELLS and min(sides) >= 4:
            layers.append(Layer(64, 4, 2))
            sides = shrink(layers[-1])
        return layers
    layers = [Layer(32, 3, 1, True)]
    while math.prod(sides) > 49 and min(sides) >= 2:
        layers.append(Layer(64, 4, 2, True))
        sides = shrink(layers[-1])
    return layers if len(layers) > 1 else [*layers, Layer(64, 3, 1, True)]


class NatureCNN(nn.Module):
    """The network of Mnih et al. 2015: images [..., H, W, C] -> features [..., 512].

    Bytes are divided by 255; floats, such as normalised images, are unchanged. Smaller and larger
    images have other layers, see `layers_for`. With `layer_norm` each activation is of normalised
    channels or features.
    """

    features: int = 512
    layer_norm: bool = False

    @nn.compact
    def __call__(self, image: Array) -> Array:
        x = image / 255.0 if jnp.issubdtype(image.dtype, jnp.integer) else image
        border = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
        for channels, kernel, stride, padded in layers_for(*image.shape[-3:-1]):
            x = jnp.pad(x, border) if padded else x
            x = activated(Conv(channels, kernel, stride)(x), self.layer_norm)
        x = x.reshape(*image.shape[:-3], -1)
        return activated(dense(self.features)(x), self.layer_norm)


class GridCNN(nn.Module):
    """The network of MinAtar's authors: grids [..., H, W, C] -> features [..., 128].

    Young & Tian 2019, arXiv:1903.03176: one 3x3 convolution of 16 channels and one layer.
    With `layer_norm` as in Gallici et al. 2024, arXiv:2407.04811.
    """

    features: int = 128
    layer_norm: bool = False

    @nn.compact
    def __call__(self, image: Array) -> Array:
        x = activated(Conv(16, 3)(image), self.layer_norm)
        x = x.reshape(*image.shape[:-3], -1)
        return activated(dense(self.features)(x), self.layer_norm)


def activated(x: Array, layer_norm: bool) -> Array:
    """ReLU of features, which are normalised over the last axis first if asked for."""
    return nn.relu(nn.LayerNorm()(x) if layer_norm else x)


def dense(features: int) -> nn.Dense:
    """The layer behind the convolutions."""
    return nn.Dense(features, kernel_init=nn.initializers.he_normal())
