"""Few updates of large networks whose weights, features and gradients are bounded.

Kim et al. 2026, arXiv:2604.04539. What is new beside SAC is here; the rest are choices: networks
(models.torsos.FlashTorso), a categorical critic, scaled rewards, repeated noise, delayed policies.
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
    """SAC whose networks, the target too, are normalised by current and next steps together."""

    def critic_values(
        self, params: Params, target: Params, batch: Step, next_action: Array, key: Array
    ) -> tuple[ValueDistribution, ValueDistribution, Params]:
        """Joint passes of the critics and of their target."""
        k_now, k_next = jax.random.split(key)
        _, next_values, _ = joint_pass(self.critic, target, batch, next_action, k_next)
        values, _, new = joint_pass(self.critic, params, batch, next_action, k_now)
        return values, next_values, new

    def policy_of(self, params: Params, batch: Step, key: Array) -> tuple[Any, Params]:
        """A joint pass of the actor, of which only the first half is learned from."""
        obs = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), batch.obs, batch.next_obs)
        pi, new = modes.train(self.actor, params, obs, key=key)
        size = batch.action.shape[0]
        return jax.tree.map(lambda x: x[:size], pi), new
