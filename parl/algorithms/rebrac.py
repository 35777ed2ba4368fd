"""ReBRAC: TD3+BC with a penalty in the critic's target, too.

Tarasov et al. 2023, arXiv:2305.09836. Layer normalisation, depth and large batches are of its
recipe. Batches hold the `next_action` of the data in their extras, see `NextAction`. Shapes: B
batch, A action, C critics.
"""

import jax.numpy as jnp

from parl.algorithms.td3_bc import TD3BC
from parl.core.types import Array, Step


class ReBRAC(TD3BC):
    """TD3+BC with separate penalties for actor and critic: eq. 2 and 3."""

    penalty: float = 0.01
    critic_penalty: float = 0.01

    def policy_value(self, q: Array) -> Array:
        return q.min(0)

    def next_cost(self, next_action: Array, batch: Step) -> Array:
        """The penalty [B] on next actions away from the recorded ones, where those are known."""
        away = self.distance(next_action, batch.extras["next_action"])
        return self.critic_penalty * jnp.where(batch.extras["next_known"], away, 0.0)

    def distance(self, one: Array, other: Array) -> Array:
        return jnp.square(one - other).sum(-1)
