"""Search in a learned model of latent states. Shapes: B environments, A actions, H features."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from parl.core.types import Array
from parl.planning.gumbel import Edge, Model, Node

Dynamics = Callable[[Array, Array], tuple[Array, Array]]  # (latent, action): (latent, reward)
Prediction = Callable[[Array], tuple[Array, Array]]  # of a latent: (logits, value)


def latent_model(dynamics: Dynamics, prediction: Prediction, gamma: float | Array) -> Model:
    """Plays ahead in the learned model, which has no ends: they are states that are worth 0."""

    def model(latent: Any, action: Array, key: Array) -> tuple[Edge, Node]:
        latent, reward = dynamics(latent, action)
        logits, value = prediction(latent)
        return Edge(reward, jnp.full_like(reward, gamma)), Node(logits, value, latent)

    return model
