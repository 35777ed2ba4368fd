"""Convolutional networks for images."""

import flax.linen as nn
import jax.numpy as jnp

from parl.core.types import Array


class NatureCNN(nn.Module):
    """The network of Mnih et al. 2015: images [..., H, W, C] of 0..255 -> features [..., 512].

    Images of fewer than 36 pixels a side take the small kernels of Mnih et al.'s successors,
    two 3x3 convolutions, since the large ones would not fit.
    """

    features: int = 512

    @nn.compact
    def __call__(self, image: Array) -> Array:
        x = image.astype(jnp.float32) / 255.0
        small = min(image.shape[-3:-1]) < 36
        layers = ((32, 3, 1), (64, 3, 1)) if small else ((32, 8, 4), (64, 4, 2), (64, 3, 1))
        for channels, kernel, stride in layers:
            padding = "SAME" if small else "VALID"
            x = nn.relu(nn.Conv(channels, (kernel, kernel), stride, padding=padding)(x))
        x = x.reshape(*image.shape[:-3], -1)
        return nn.relu(nn.Dense(self.features)(x))
