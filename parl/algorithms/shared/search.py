"""What the algorithms share that act by searching."""

import jax
import jax.numpy as jnp

from parl import ops
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.types import Array, static


class NetworkPolicy(Algorithm):
    """Acts with the network alone that guides a search; its policy is that of the search."""

    model: Model = static(default=None)


def with_random_moves(
    key: Array, action: Array, legal: Array, share: float | Array
) -> tuple[Array, Array]:
    """Actions [B] of which a share is uniform among the legal [B, A] ones, and which [B] are."""
    k_which, k_random = jax.random.split(key)
    random = jax.random.bernoulli(k_which, share, action.shape)
    return jnp.where(random, ops.uniform_choice(k_random, legal), action), random
