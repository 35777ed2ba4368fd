"""Convolutional networks for images."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl.core.types import Array


class Conv(nn.Module):
    """Convolution without padding: images [..., H, W, C] -> [..., H', W', features].

    On a CPU it is a sum of matrix products over shifted images, whose gradient takes about half the
    time of XLA's strided convolutions.
    """

    features: int
    kernel: int  # pixels a side
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        divides = self.kernel % self.stride == 0
        by_products = divides and jax.default_backend() == "cpu"
        return (shifted_products if by_products else convolution)(x, kernel, self.stride) + bias


def convolution(x: Array, kernel: Array, stride: int) -> Array:
    """[..., H, W, C] and [K, K, C, O] -> [..., H', W', O], as XLA does it."""
    images = x.reshape(-1, *x.shape[-3:])
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "VALID", dimension_numbers=layout
    )
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def shifted_products(x: Array, kernel: Array, stride: int) -> Array:
    """The same with matrix products; the stride divides K.

    Blocks of stride x stride pixels become one pixel of so many more channels, which leaves a
    convolution of stride 1: one product for each of its shifts.
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
    total: Array = jnp.zeros(())
    for i in range(shifts):
        for j in range(shifts):
            total = total + x[..., i : i + rows, j : j + columns, :] @ kernel[i, j]
    return total


class NatureCNN(nn.Module):
    """The network of Mnih et al. 2015: images [..., H, W, C] -> features [..., 512].

    Bytes are divided by 255; floats, as normalisation makes them, are taken as they are.

    Images of fewer than 36 pixels a side take the small kernels of Mnih et al.'s successors,
    two 3x3 convolutions, since the large ones would not fit.
    """

    features: int = 512

    @nn.compact
    def __call__(self, image: Array) -> Array:
        x = image / 255.0 if jnp.issubdtype(image.dtype, jnp.integer) else image
        small = min(image.shape[-3:-1]) < 36
        layers = ((32, 3, 1), (64, 3, 1)) if small else ((32, 8, 4), (64, 4, 2), (64, 3, 1))
        border = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
        for channels, kernel, stride in layers:
            x = jnp.pad(x, border) if small else x
            x = nn.relu(Conv(channels, kernel, stride)(x))
        x = x.reshape(*image.shape[:-3], -1)
        return nn.relu(nn.Dense(self.features, kernel_init=nn.initializers.he_normal())(x))
