"""From any observation space to one feature vector."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl.core.spec import Box, Discrete, MultiDiscrete
from parl.core.types import Array
from parl.models.cnn import NatureCNN

NOT_FEATURES = ("legal",)  # entries of a dict observation that are masks, not inputs


def is_image(space: Any) -> bool:
    """Whether a space holds images [H, W, C] of bytes."""
    return isinstance(space, Box) and len(space.shape) == 3 and space.dtype == "uint8"


def has_images(space: Any) -> bool:
    """Whether there is an image in an observation space."""
    if isinstance(space, dict):
        return any(has_images(part) for part in space.values())
    return is_image(space)


class Encoder(nn.Module):
    """Flattens boxes, one-hot encodes integers, convolves images, concatenates dicts.

    A plain vector passes through untouched and costs nothing. Leading axes are free.
    """

    space: Any  # a parl.core.spec.Space

    @nn.compact
    def __call__(self, obs: Any) -> Array:
        return self.encode(self.space, obs)

    def encode(self, space: Any, obs: Any) -> Array:
        """Features [..., F] of obs [..., *O]."""
        if isinstance(space, Box):
            if is_image(space):
                return NatureCNN()(obs)
            lead = obs.ndim - len(space.shape)
            return jnp.asarray(obs, jnp.float32).reshape(*obs.shape[:lead], -1)
        if isinstance(space, Discrete):
            return jax.nn.one_hot(obs, space.n)
        if isinstance(space, MultiDiscrete):
            parts = [jax.nn.one_hot(obs[..., i], n) for i, n in enumerate(space.nvec)]
            return jnp.concatenate(parts, -1)
        names = sorted(name for name in space if name not in NOT_FEATURES)
        return jnp.concatenate([self.encode(space[name], obs[name]) for name in names], -1)
