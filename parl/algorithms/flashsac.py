"""FlashSAC: few updates of large networks with bounded weights, features and gradients.

Kim et al. 2026, arXiv:2604.04539. This file holds what differs from SAC. The rest is set by
arguments: networks (models.torsos.FlashTorso), a categorical critic, scaled rewards, repeated noise
and delayed policy updates.
"""

from typing import Any

import jax
import jax.numpy as jnp

from parl.algorithms.sac import SAC
from parl.algorithms.shared.critics import joint_pass
from parl.core.types import Array, Params, Step
from parl.models import modes
from parl.ops.value_distributions import ValueDistribution


class FlashSAC(SAC):
    """SAC whose networks, targets included, normalise current and next steps jointly."""

    def critic_values(
        self, params: Params, target: Params, batch: Step, next_action: Array, key: Array
    ) -> tuple[ValueDistribution, ValueDistribution, Params]:
        """Joint passes of the critics and of their targets."""
        k_now, k_next = jax.random.split(key)
        _, next_values, _ = joint_pass(self.critic, target, batch, next_action, k_next)
        values, _, new = joint_pass(self.critic, params, batch, next_action, k_now)
        return values, next_values, new

    def policy_of(self, params: Params, batch: Step, key: Array) -> tuple[Any, Params]:
        """A joint pass of the actor; returns the policies of the current steps only."""
        obs = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), batch.obs, batch.next_obs)
        pi, new = modes.train(self.actor, params, obs, key=key)
        size = batch.action.shape[0]
        return jax.tree.map(lambda x: x[:size], pi), new
