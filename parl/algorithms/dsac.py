"""Discrete SAC: soft actor-critic whose expectations over actions are exact sums.

Christodoulou 2019, arXiv:1910.07207. Shapes: B batch, A actions, C critics.
"""

from typing import Any

import jax
import jax.numpy as jnp

from parl import ops
from parl.algorithms.sac import SAC, SACState
from parl.algorithms.shared.critics import critic_regression
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Params, Step, static
from parl.models import modes


class DSAC(SAC):
    """Maximises return plus entropy over discrete actions; batches are single steps [B, ...]."""

    actor: Model = static(default=None)  # obs [B, O] -> Categorical over A actions
    critic: Model = static(default=None)  # obs -> [C, B, A]

    def critic_inputs(self, spec: EnvSpec) -> tuple[Any, ...]:
        return (spec.obs,)

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        return ()

    def act(
        self, policy: Any, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        pi = self.actor.apply(policy, obs)
        return pi.sample(key) if explore else pi.mode(), memory, {}

    def critic_loss(
        self, params: Params, state: SACState, batch: Step, key: Array, k_net: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """Soft Bellman residual, eq. 4 and 10: the next value is an expectation."""
        k_now, k_next = jax.random.split(k_net)
        pi = self.actor.apply(state.actor.params, batch.next_obs)
        next_q = modes.perturb(self.critic, state.target, batch.next_obs, key=k_next).min(0)
        next_value = ops.Point((pi.probs * next_q).sum(-1))
        cost = self.next_cost(state, -pi.entropy())
        target = next_value.backup(batch.reward, self.gamma * batch.discount, cost)
        q, statistics = modes.train(self.critic, params, batch.obs, key=k_now)
        action = jnp.broadcast_to(batch.action, q.shape[:-1])  # the same for all critics
        loss, metrics = critic_regression(ops.Point(ops.select(q, action)), target, batch)
        return loss, (metrics, statistics)

    def actor_loss(
        self, params: Params, state: SACState, batch: Step, key: Array, k_net: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """The policy's objective, eq. 12, as an expectation over actions."""
        k_actor, k_critic = jax.random.split(k_net)
        pi, statistics = self.policy_of(params, batch, k_actor)
        q = modes.perturb(self.critic, state.critic.params, batch.obs, key=k_critic).min(0)
        entropy = pi.entropy()
        loss = -jnp.mean(jnp.exp(state.alpha.params) * entropy + (pi.probs * q).sum(-1))
        return loss, ({"actor_loss": loss, "entropy": entropy.mean()}, statistics)
