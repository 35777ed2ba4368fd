"""AWAC: an off-policy critic, and a policy regressed on the actions it prefers.

Nair et al. 2020, arXiv:2006.09359. Shapes: B batch, O observation, A action, C critics.
"""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl.algorithms.shared.critics import critic_regression, init_net, learn
from parl.algorithms.shared.weighted_regression import WeightedRegression
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Step
from parl.models import modes
from parl.ops.value_distributions import as_values, least


class AWACState(struct.PyTreeNode):
    """Everything AWAC learns."""

    actor: Net
    critic: Net  # leaves [C, ...]
    target: Params  # averaged copy of critic.params


class AWAC(WeightedRegression):
    """Advantage-weighted actor-critic; batches are single steps [B, ...]."""

    inverse_temperature: float = 1.0

    def init(self, key: Array, spec: EnvSpec) -> AWACState:
        k_actor, k_critic = jax.random.split(key)
        actor = modes.init(self.actor, k_actor, spec.obs, renewed=True)
        critic = modes.init(self.critic, k_critic, spec.obs, spec.action, renewed=True)
        net = init_net(self.optimizer(self.critic_learning_rate), critic)
        target = jax.tree.map(jnp.copy, net.params)  # a donated buffer may not appear twice
        return AWACState(init_net(self.transformation, actor), net, target)

    def update(self, state: AWACState, batch: Step, key: Array) -> tuple[AWACState, Metrics]:
        k_critic, k_net, k_policy, k_actor = jax.random.split(key, 4)
        optimizer = self.optimizer(self.critic_learning_rate)
        critic, info = learn(
            optimizer, self.critic_loss, state.critic, state, batch, k_critic, k_net
        )
        target = optax.incremental_update(critic.params, state.target, self.tau)
        advantage = self.advantage(critic.params, state.actor.params, batch, k_policy)
        actor, more = self.update_policy(state.actor, batch, advantage, k_actor)
        return AWACState(actor, critic, target), info | more

    def critic_loss(
        self, params: Params, state: AWACState, batch: Step, key: Array, k_net: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """Bellman residual of the policy: algorithm 1, line 5."""
        next_action = self.chosen(state.actor.params, batch.next_obs, key)
        next_values = as_values(self.critic.apply(state.target, batch.next_obs, next_action))
        target = least(next_values).backup(batch.reward, self.gamma * batch.discount)
        values, statistics = modes.train(self.critic, params, batch.obs, batch.action, key=k_net)
        loss, metrics = critic_regression(as_values(values), target, batch)
        return loss, (metrics, statistics)

    def advantage(self, critic: Params, actor: Params, batch: Step, key: Array) -> Array:
        """[B] by how much the recorded actions are better than one of the policy."""
        value = lambda action: as_values(self.critic.apply(critic, batch.obs, action)).mean.min(0)
        return value(batch.action) - value(self.chosen(actor, batch.obs, key))

    def chosen(self, actor: Params, obs: Array, key: Array) -> Array:
        """Actions [B, A] of the policy."""
        return self.act(actor, obs, (), key, explore=True)[0]
