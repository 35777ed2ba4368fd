"""CQL: SAC whose critics are held down where the data say nothing.

Kumar et al. 2020, arXiv:2006.04779. Shapes: B batch, A action, C critics, S sampled actions.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from parl.algorithms.sac import SAC, SACState
from parl.core.types import Array, Metrics, Params, Step, static
from parl.models import modes
from parl.ops.value_distributions import as_values


class CQL(SAC):
    """SAC with a conservative term; with a weight of 0 it is SAC."""

    samples: int = static(default=10)  # actions of each of three kinds
    conservatism: float = 5.0  # weight of the conservative term, alpha in the paper

    def critic_loss(
        self, params: Params, state: SACState, batch: Step, key: Array, k_net: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """Soft Bellman residual plus the conservative term: eq. 4."""
        loss, (metrics, statistics) = super().critic_loss(params, state, batch, key, k_net)
        gap = self.gap(params, state.actor.params, batch, jax.random.fold_in(key, 1))
        return loss + self.conservatism * gap, (metrics | {"gap": gap}, statistics)

    def gap(self, params: Params, actor: Params, batch: Step, key: Array) -> Array:
        """[] log-sum-exp of the values of all actions less the value of the recorded ones.

        Mean over B, sum over C. The integral is estimated with uniform actions and those of the
        policy here and in the next state, each divided by its density: app. F.
        """
        k_uniform, k_here, k_next, k_net = jax.random.split(key, 4)
        shape = (self.samples, *batch.action.shape)
        uniform = jax.random.uniform(k_uniform, shape, minval=-1.0, maxval=1.0)
        flat = jnp.full(shape[:-1], -shape[-1] * math.log(2.0))
        here, here_density = self.drawn(actor, batch.obs, k_here)
        after, after_density = self.drawn(actor, batch.next_obs, k_next)
        actions = jnp.concatenate([uniform, here, after])  # [S, B, A]
        density = jnp.concatenate([flat, here_density, after_density])  # [S, B]
        obs = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(actions), *x.shape)), batch.obs)
        value = lambda *inputs: as_values(modes.perturb(self.critic, params, *inputs, key=k_net))
        q = value(obs, actions).mean - jax.lax.stop_gradient(density)  # [C, S, B]
        soft = jax.nn.logsumexp(q, 1) - math.log(len(actions))
        return (soft - value(batch.obs, batch.action).mean).mean(-1).sum()

    def drawn(self, actor: Params, obs: Any, key: Array) -> tuple[Array, Array]:
        """(actions [S, B, A] of the policy, their log-densities [S, B]), without gradients."""
        pi = jax.lax.stop_gradient(self.actor.apply(actor, obs))
        return jax.vmap(pi.sample_and_log_prob)(jax.random.split(key, self.samples))
