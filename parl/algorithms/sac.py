"""Soft actor-critic with a learned temperature.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905.
Shapes: B batch, O observation, A action, C critics.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Step, descend, static


class SACState(struct.PyTreeNode):
    """Everything SAC learns."""

    actor: Net
    critic: Net  # leaves [C, ...]
    alpha: Net  # params: log temperature []
    target: Params  # slow copy of critic.params


class SAC(Algorithm):
    """Maximises return plus entropy; batches are single steps [B, ...]."""

    actor: Model = static(default=None)  # obs [B, O] -> TanhNormal over [B, A]
    critic: Model = static(default=None)  # obs [B, O], action [B, A] -> [C, B]
    learning_rate: float = 3e-4
    gamma: float = 0.99
    tau: float = 0.005
    target_entropy: float = -1.0

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam, the same for actor, critics and temperature."""
        return optax.adam(self.learning_rate)

    @property
    def tolerates_lag(self) -> bool:
        return True

    def init(self, key: Array, spec: EnvSpec) -> SACState:
        k_actor, k_critic = jax.random.split(key)
        critic = self.critic.init(k_critic, spec.obs, spec.action)
        return SACState(
            actor=self.net(self.actor.init(k_actor, spec.obs)),
            critic=self.net(critic),
            alpha=self.net(jnp.zeros(())),
            target=jax.tree.map(jnp.copy, critic),  # a donated buffer may not appear twice
        )

    def net(self, params: Params) -> Net:
        """Parameters with a fresh optimiser state."""
        return Net(params, self.optimizer.init(params))

    def policy(self, state: SACState) -> Params:
        return state.actor.params

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        pi = self.actor.apply(policy, obs)
        return (pi.sample(key) if explore else pi.mode()), memory, {}

    def update(self, state: SACState, batch: Step, key: Array) -> tuple[SACState, Metrics]:
        k_critic, k_actor = jax.random.split(key)
        critic, critic_info = descend(
            self.optimizer, self.critic_loss, state.critic, state, batch, k_critic
        )
        state = state.replace(critic=critic)
        actor, actor_info = descend(
            self.optimizer, self.actor_loss, state.actor, state, batch, k_actor
        )
        alpha, alpha_info = descend(
            self.optimizer, self.alpha_loss, state.alpha, actor_info["entropy"]
        )
        target = optax.incremental_update(critic.params, state.target, self.tau)
        state = state.replace(actor=actor, alpha=alpha, target=target)
        return state, critic_info | actor_info | alpha_info

    def critic_loss(
        self, params: Params, state: SACState, batch: Step, key: Array
    ) -> tuple[Array, Metrics]:
        """Soft Bellman residual, eq. 5 and 6."""
        pi = self.actor.apply(state.actor.params, batch.next_obs)
        next_action, log_prob = pi.sample_and_log_prob(key)
        next_q = self.critic.apply(state.target, batch.next_obs, next_action).min(0)  # [B]
        next_v = next_q - jnp.exp(state.alpha.params) * log_prob
        target = batch.reward + self.gamma * batch.discount * next_v
        q = self.critic.apply(params, batch.obs, batch.action)  # [C, B]
        loss = 0.5 * jnp.mean((q - jax.lax.stop_gradient(target)) ** 2, -1).sum()
        return loss, {"critic_loss": loss, "q": q.mean()}

    def actor_loss(
        self, params: Params, state: SACState, batch: Step, key: Array
    ) -> tuple[Array, Metrics]:
        """Reparameterised policy objective, eq. 9."""
        action, log_prob = self.actor.apply(params, batch.obs).sample_and_log_prob(key)
        q = self.critic.apply(state.critic.params, batch.obs, action).min(0)
        loss = jnp.mean(jnp.exp(state.alpha.params) * log_prob - q)
        return loss, {"actor_loss": loss, "entropy": -log_prob.mean()}

    def alpha_loss(self, log_alpha: Array, entropy: Array) -> tuple[Array, Metrics]:
        """Temperature objective, eq. 18; log_alpha in place of alpha, as is usual."""
        loss = log_alpha * jax.lax.stop_gradient(entropy - self.target_entropy)
        return loss, {"alpha_loss": loss, "alpha": jnp.exp(log_alpha)}
