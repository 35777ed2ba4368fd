"""TD3+BC: TD3 whose policy stays near the recorded actions.

Fujimoto and Gu 2021, arXiv:2106.06860. Shapes: B batch, A action, C critics.
"""

import jax
import jax.numpy as jnp

from parl.algorithms.td3 import TD3
from parl.core.types import Array, Step


class TD3BC(TD3):
    """TD3 with a penalty on the distance from the data; with a penalty of 0 it is TD3."""

    penalty: float = 0.4  # of the squared distance, in units of the mean absolute value: 1 / alpha

    def policy_loss(self, q: Array, action: Array, batch: Step) -> Array:
        """Eq. 3 with the weight of eq. 5, divided by that: lambda = 1 / (penalty mean |Q|).

        The scale of a loss is nothing to Adam.
        """
        value = self.policy_value(q)
        scale = jax.lax.stop_gradient(jnp.abs(value).mean())
        away = self.distance(action, batch.action).mean()
        return -value.mean() + self.penalty * scale * away

    def policy_value(self, q: Array) -> Array:
        """What the policy maximises [B] of the critics' values [C, B]."""
        return q[0]

    def distance(self, one: Array, other: Array) -> Array:
        """The squared distance [B] of actions [B, A]."""
        return jnp.square(one - other).mean(-1)
