"""Implicit Q-learning: values of the best recorded actions, without asking for any other.

Kostrikov et al. 2021, arXiv:2110.06169, where it is called IQL; here `iql` is independent
Q-learning of several agents. Shapes: B batch, O observation, A action, C critics.
"""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.critics import critic_regression, init_net, learn
from parl.algorithms.shared.weighted_regression import WeightedRegression
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Step, descend, static
from parl.models import modes
from parl.ops.value_distributions import as_values


class ImplicitQState(struct.PyTreeNode):
    """Everything implicit Q-learning learns."""

    actor: Net
    critic: Net  # leaves [C, ...]
    value: Net
    target: Params  # averaged copy of critic.params


class ImplicitQ(WeightedRegression):
    """Expectile regression of state values; batches are single steps [B, ...]."""

    value: Model = static(default=None)  # obs [B, O] -> [B]
    expectile: float = 0.7
    reward_scale: float = 1.0  # advantages are compared with the temperature

    def init(self, key: Array, spec: EnvSpec) -> ImplicitQState:
        k_actor, k_critic, k_value = jax.random.split(key, 3)
        made = lambda model, k, *inputs: modes.init(model, k, *inputs, renewed=True)
        optimizer = self.optimizer(self.critic_learning_rate)
        critic = init_net(optimizer, made(self.critic, k_critic, spec.obs, spec.action))
        return ImplicitQState(
            init_net(self.transformation, made(self.actor, k_actor, spec.obs)),
            critic,
            init_net(optimizer, modes.init(self.value, k_value, spec.obs)),
            jax.tree.map(jnp.copy, critic.params),  # a donated buffer may not appear twice
        )

    def update(
        self, state: ImplicitQState, batch: Step, key: Array
    ) -> tuple[ImplicitQState, Metrics]:
        batch = batch._replace(reward=self.reward_scale * batch.reward)
        k_actor, k_critic = jax.random.split(key)
        optimizer = self.optimizer(self.critic_learning_rate)
        q = as_values(self.critic.apply(state.target, batch.obs, batch.action)).mean.min(0)
        value, info = descend(optimizer, self.value_loss, state.value, batch, q)
        advantage = q - self.value.apply(value.params, batch.obs)
        actor, more = self.update_policy(state.actor, batch, advantage, k_actor)
        critic, most = learn(
            optimizer, self.critic_loss, state.critic, value.params, batch, k_critic
        )
        target = optax.incremental_update(critic.params, state.target, self.tau)
        return ImplicitQState(actor, critic, value, target), info | more | most

    def value_loss(self, params: Params, batch: Step, q: Array) -> tuple[Array, Metrics]:
        """Expectile regression on the values of the recorded actions [B]: eq. 5."""
        value = self.value.apply(params, batch.obs)
        loss = ops.expectile_loss(q - value, self.expectile).mean()
        return loss, {"value_loss": loss, "value": value.mean()}

    def critic_loss(
        self, params: Params, value_params: Params, batch: Step, key: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """One-step backup of the state value: eq. 6."""
        next_value = as_values(self.value.apply(value_params, batch.next_obs))
        target = next_value.backup(batch.reward, self.gamma * batch.discount)
        values, statistics = modes.train(self.critic, params, batch.obs, batch.action, key=key)
        loss, metrics = critic_regression(as_values(values), target, batch)
        return loss, (metrics, statistics)
