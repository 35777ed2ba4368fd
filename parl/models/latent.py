"""MuZero's three networks, Schrittwieser et al. 2020, arXiv:1911.08265, app. F and G.

Latent states [..., H] are scaled to [0, 1], so that they stay there however often the dynamics are
applied.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from parl import ops
from parl.core.types import Array
from parl.models.encoder import Encoder


def unit_range(x: Array) -> Array:
    """x [..., H] scaled so that its smallest entry is 0 and its largest 1: app. G."""
    low, high = x.min(-1, keepdims=True), x.max(-1, keepdims=True)
    return (x - low) / jnp.maximum(high - low, 1e-5)


class Representation(nn.Module):
    """obs -> latent [..., H]."""

    observation_space: Any
    size: int
    torso: nn.Module

    @nn.compact
    def __call__(self, obs: Any) -> Array:
        return unit_range(nn.Dense(self.size)(self.torso(Encoder(self.observation_space)(obs))))


class Dynamics(nn.Module):
    """(latent, action [...] int) -> (the next latent, logits [..., bins] of the reward)."""

    num_actions: int
    bins: int
    torso: nn.Module

    @nn.compact
    def __call__(self, latent: Array, action: Array) -> tuple[Array, Array]:
        x = jnp.concatenate([latent, jax.nn.one_hot(action, self.num_actions)], -1)
        x = self.torso(x)
        change = nn.Dense(latent.shape[-1])(x)
        zeros = nn.initializers.zeros
        return unit_range(latent + change), nn.Dense(self.bins, kernel_init=zeros)(x)


class Prediction(nn.Module):
    """latent -> (Categorical over actions, logits [..., bins] of the value)."""

    num_actions: int
    bins: int
    torso: nn.Module

    @nn.compact
    def __call__(self, latent: Array) -> tuple[ops.Categorical, Array]:
        x, zeros = self.torso(latent), nn.initializers.zeros
        head = lambda size: nn.Dense(size, kernel_init=zeros)(x)
        return ops.Categorical(head(self.num_actions)), head(self.bins)
