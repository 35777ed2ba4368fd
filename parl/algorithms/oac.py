"""OAC: exploration shifts actions towards a higher upper confidence bound of their value.

Ciosek et al. 2019, arXiv:1910.12807. Learning is that of SAC. The lower bound in the policy's
objective is the minimum over critics, as in the authors' later code, which has no coefficient for
it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from parl import ops
from parl.algorithms.sac import SAC, SACState
from parl.core.types import Array, Params
from parl.ops.value_distributions import as_values


class OAC(SAC):
    """SAC with optimistic exploration, for which actors need the critics."""

    optimism: float = 4.66  # beta_UB: standard deviations above the critics' mean
    shift: float = 6.86  # length of the shift in standard deviations of the policy, sqrt(2 delta)

    def policy(self, state: SACState) -> dict[str, Params]:
        return {"actor": state.actor.params, "critic": state.critic.params}

    def act(
        self, policy: dict[str, Params], obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        pi = self.actor.apply(policy["actor"], obs)
        if not explore:
            return pi.mode(), memory, {}
        noise, memory = self.noise(key, memory, pi.mean.shape)
        return self.shifted(pi, policy["critic"], obs).from_noise(noise), memory, {}

    def shifted(self, pi: ops.TanhNormal, critic: Params, obs: Any) -> ops.TanhNormal:
        """The exploration policy, eq. 7 and 8: the mean moves along the upper bound's gradient.

        The shift is Sigma g / |g|_Sigma * sqrt(2 delta). g is the gradient of the upper bound with
        respect to the mean before the tanh, as in the authors' code.
        """
        gradient = jax.grad(lambda mean: self.upper_bound(pi.replace(mean=mean), critic, obs).sum())
        g, variance = gradient(pi.mean), jnp.exp(2 * pi.log_std)
        length = jnp.sqrt((g**2 * variance).sum(-1, keepdims=True)) + 1e-5
        return pi.replace(mean=pi.mean + self.shift * variance * g / length)

    def upper_bound(self, pi: ops.TanhNormal, critic: Params, obs: Any) -> Array:
        """Mean plus `optimism` standard deviations of the critics at the mode: [B], eq. 4."""
        q = as_values(self.critic.apply(critic, obs, pi.mode())).mean  # [C, B]
        spread = jnp.sqrt(q.var(0) + 1e-12)  # keeps the gradient finite if all agree
        return q.mean(0) + self.optimism * spread
