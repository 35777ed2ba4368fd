"""Turns observations of any space into one feature vector."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl.core.errors import SpaceError
from parl.core.goals import ACHIEVED, shows_goals
from parl.core.spec import Box, Discrete, MultiDiscrete, image_axes, is_bytes, is_grid
from parl.core.types import Array
from parl.models.cnn import GridCNN, NatureCNN

MASKS = ("legal",)  # entries of a dict observation that are masks, not inputs


def inputs(space: Any) -> Any:
    """The space without what is no input. If one other entry is left, it is returned itself."""
    if not isinstance(space, dict) or len(seen := features(space)) == len(space):
        return space
    return space[seen[0]] if len(seen) == 1 else {name: space[name] for name in seen}


def features(space: dict[str, Any]) -> list[str]:
    """The entries of a dict space that networks see, in the order of their inputs.

    Masks are none, and where a goal is asked for, what was achieved is none: it is for judging.
    """
    judged = {ACHIEVED} if shows_goals(space) else set()
    return sorted(n for n, part in space.items() if not is_mask(n, part) and n not in judged)


def is_mask(name: str, space: Any) -> bool:
    """Whether an entry of a dict space is a mask, which is not an input of networks."""
    return name in MASKS and isinstance(space, Box) and space.dtype == "bool"


def is_image(space: Any) -> bool:
    """Whether a space is an image, or a dict of one image and masks."""
    return image_axes(inputs(space)) is not None


def has_images(space: Any) -> bool:
    """Whether there is an image in an observation space."""
    if isinstance(space, dict):
        return any(has_images(part) for part in space.values())
    return is_image(space)


def with_masks(features: Array, obs: Any) -> dict[str, Array]:
    """A dict of the features as `output` and the observation's masks."""
    masks = {name: obs[name] for name in MASKS if name in obs} if isinstance(obs, dict) else {}
    return {"output": features} | masks


class Encoder(nn.Module):
    """Flattens boxes, one-hot encodes integers, convolves images, concatenates dicts.

    Bytes are divided by 255. A plain vector is unchanged and costs nothing. Images may have any
    layout that `image_axes` recognises. Leading axes are free. With `layer_norm` the convolutions'
    activations are of normalised channels.
    """

    space: Any  # a parl.core.spec.Space
    layer_norm: bool = False

    @nn.compact
    def __call__(self, obs: Any) -> Array:
        return self.encode(self.space, obs)

    def encode(self, space: Any, obs: Any) -> Array:
        """Features [..., F] of obs [..., *O]."""
        if isinstance(space, Box):
            if axes := image_axes(space):
                return image_network(space, self.layer_norm)(pixels(space, axes, obs))
            x, lead = jnp.asarray(obs, jnp.float32), jnp.ndim(obs) - len(space.shape)
            # Bytes that normalisation has turned into floats are scaled already.
            x = (
                x / 255
                if is_bytes(space) and jnp.issubdtype(jnp.result_type(obs), jnp.integer)
                else x
            )
            return x.reshape(*x.shape[:lead], -1)
        if isinstance(space, Discrete):
            return jax.nn.one_hot(obs, space.n)
        if isinstance(space, MultiDiscrete):
            parts = [jax.nn.one_hot(obs[..., i], n) for i, n in enumerate(space.nvec)]
            return jnp.concatenate(parts, -1)
        return jnp.concatenate([self.encode(space[n], obs[n]) for n in features(space)], -1)


def image_network(space: Any, layer_norm: bool = False) -> NatureCNN | GridCNN:
    """The network that encodes the images of a space, which may have masks beside."""
    network = GridCNN if is_grid(inputs(space)) else NatureCNN
    return network(layer_norm=layer_norm)


def pixels(space: Box, axes: tuple[int, ...], obs: Array) -> Array:
    """obs [..., *O] as images [..., H, W, C]; values in 0 .. 1 and truth values become floats."""
    if obs.shape[obs.ndim - len(space.shape) :] != space.shape:
        raise SpaceError(f"images of shape {obs.shape} were given where {space} was expected.")
    if space.high == 1 or space.dtype == "bool":
        obs = jnp.asarray(obs, jnp.float32)
    lead = obs.ndim - len(space.shape)
    x = jnp.transpose(obs, (*range(lead), *(lead + axis for axis in axes)))
    return x.reshape(*x.shape[: lead + 2], -1)
