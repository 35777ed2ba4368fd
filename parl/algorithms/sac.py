"""Soft actor-critic with a learned temperature, and the base of its variants.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905. Variants
override small methods such as `critic_values` and `next_value`; networks, value heads, noise and
optimisers are arguments. Shapes: B batch, O observation, A action, C critics.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.critics import critic_regression, every_n, init_net, learn
from parl.algorithms.shared.optimizers import Optimizer
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Step, descend, static
from parl.models import modes
from parl.ops.noise import Noise, Scaled, White
from parl.ops.value_distributions import ValueDistribution, as_values, least


class SACState(struct.PyTreeNode):
    """Everything SAC learns."""

    actor: Net
    critic: Net  # leaves [C, ...]
    alpha: Net  # params: log temperature []
    target: Params  # averaged copy of critic.params
    updates: Array  # [] int32


class SAC(Algorithm):
    """Maximises return plus entropy; batches are single steps [B, ...]."""

    actor: Model = static(default=None)  # obs [B, O] -> TanhNormal over [B, A]
    critic: Model = static(default=None)  # obs, action -> [C, B], or a ValueDistribution of these
    noise: Noise = static(default=White())
    optimizer: Optimizer = static(default=optax.adam)
    policy_period: int = static(default=1)  # critic updates per policy update
    entropy_backup: bool = static(default=True)  # whether next values include the entropy
    learning_rate: float = 3e-4  # of the actor
    critic_learning_rate: float = 3e-4  # also of the temperature
    gamma: float = 0.99
    tau: float = 0.005
    noise_spread: float = 0.0  # an environment's noise is 0.4^(spread place) of the policy's
    initial_temperature: float = 1.0
    target_entropy: float = -1.0

    @property
    def tolerates_lag(self) -> bool:
        return True

    def init(self, key: Array, spec: EnvSpec) -> SACState:
        k_actor, k_critic = jax.random.split(key)
        optimizer = self.optimizer(self.critic_learning_rate)
        actor = init_net(
            self.optimizer(self.learning_rate),
            modes.init(self.actor, k_actor, spec.obs, renewed=True),
        )
        critic = init_net(
            optimizer, modes.init(self.critic, k_critic, *self.critic_inputs(spec), renewed=True)
        )
        alpha = init_net(optimizer, jnp.log(jnp.asarray(self.initial_temperature, jnp.float32)))
        target = jax.tree.map(jnp.copy, critic.params)  # a donated buffer may not appear twice
        return SACState(actor, critic, alpha, target, jnp.zeros((), jnp.int32))

    def critic_inputs(self, spec: EnvSpec) -> tuple[Any, ...]:
        """Examples of what the critic sees."""
        return spec.obs, spec.action

    def policy(self, state: SACState) -> Any:
        return state.actor.params

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        return self.noise.start(batch_shape)

    def act(
        self, policy: Any, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        pi = self.actor.apply(policy, obs)
        if not explore:
            return pi.mode(), memory, {}
        noise, memory = self.noise(key, memory, pi.mean.shape)
        return pi.from_noise(noise), memory, {}

    def exploring(self, policy: Any, place: Array) -> tuple[Algorithm, Any]:
        """Every environment has noise of its own size."""
        return self.replace(noise=Scaled.apart(self.noise, self.noise_spread, place)), policy

    def update(self, state: SACState, batch: Step, key: Array) -> tuple[SACState, Metrics]:
        k_critic, k_policy, k_critic_net, k_policy_net = jax.random.split(key, 4)
        optimizer = self.optimizer(self.critic_learning_rate)
        critic, info = learn(
            optimizer, self.critic_loss, state.critic, state, batch, k_critic, k_critic_net
        )
        target = self.update_target(state.target, critic.params)
        state = state.replace(critic=critic, target=target, updates=state.updates + 1)
        improve = lambda: self.update_policy(state, batch, k_policy, k_policy_net)
        (actor, alpha), more = every_n(
            self.policy_period, state.updates, improve, (state.actor, state.alpha)
        )
        return state.replace(actor=actor, alpha=alpha), info | more

    def update_policy(
        self, state: SACState, batch: Step, key: Array, k_net: Array
    ) -> tuple[tuple[Net, Net], Metrics]:
        """Actor and temperature after one step each."""
        optimizer = self.optimizer(self.learning_rate)
        actor, info = learn(optimizer, self.actor_loss, state.actor, state, batch, key, k_net)
        optimizer = self.optimizer(self.critic_learning_rate)
        alpha, more = descend(optimizer, self.alpha_loss, state.alpha, info["entropy"])
        return (actor, alpha), info | more

    def critic_loss(
        self, params: Params, state: SACState, batch: Step, key: Array, k_net: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """Soft Bellman residual, eq. 5 and 6."""
        pi = self.actor.apply(state.actor.params, batch.next_obs)
        next_action, log_prob = pi.sample_and_log_prob(key)
        values, next_values, statistics = self.critic_values(
            params, state.target, batch, next_action, k_net
        )
        target = self.next_value(next_values).backup(
            batch.reward, self.gamma * batch.discount, self.next_cost(state, log_prob)
        )
        loss, metrics = critic_regression(values, target, batch)
        return loss, (metrics, statistics)

    def next_cost(self, state: SACState, log_prob: Array) -> Array | float:
        """What is taken off the value of next actions of these log-probabilities [B]: eq. 3."""
        return jnp.exp(state.alpha.params) * log_prob if self.entropy_backup else 0.0

    def critic_values(
        self, params: Params, target: Params, batch: Step, next_action: Array, key: Array
    ) -> tuple[ValueDistribution, ValueDistribution, Params]:
        """(values of the batch, values of the next actions, new critic statistics); [C, B] each."""
        k_now, k_next = jax.random.split(key)
        next_values = modes.perturb(self.critic, target, batch.next_obs, next_action, key=k_next)
        values, new = modes.train(self.critic, params, batch.obs, batch.action, key=k_now)
        return as_values(values), as_values(next_values), new

    def next_value(self, values: ValueDistribution) -> ValueDistribution:
        """The critics' values [C, B] of the next state combined: [B]."""
        return least(values)

    def policy_value(self, values: ValueDistribution) -> Array:
        """The objective of the policy [B] from the critics' values [C, B]."""
        return values.mean.min(0)

    def update_target(self, target: Params, params: Params) -> Params:
        """The target network after a step towards the critics."""
        return optax.incremental_update(params, target, self.tau)

    def actor_loss(
        self, params: Params, state: SACState, batch: Step, key: Array, k_net: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """Reparameterised policy objective, eq. 9."""
        k_actor, k_critic = jax.random.split(k_net)
        pi, statistics = self.policy_of(params, batch, k_actor)
        action, log_prob = pi.sample_and_log_prob(key)
        values = modes.perturb(self.critic, state.critic.params, batch.obs, action, key=k_critic)
        q = self.policy_value(as_values(values))
        there = batch.extras.get("there")  # None: all
        loss = ops.mean(jnp.exp(state.alpha.params) * log_prob - q, there)
        entropy = -ops.mean(log_prob, there)
        return loss, ({"actor_loss": loss, "entropy": entropy}, statistics)

    def policy_of(self, params: Params, batch: Step, key: Array) -> tuple[Any, Params]:
        """(policies at the batch's obs, new statistics of the actor)."""
        return modes.train(self.actor, params, batch.obs, key=key)

    def alpha_loss(self, log_alpha: Array, entropy: Array) -> tuple[Array, Metrics]:
        """Temperature objective, eq. 18, with log_alpha instead of alpha, as is common."""
        loss = log_alpha * jax.lax.stop_gradient(entropy - self.target_entropy)
        return loss, {"alpha_loss": loss, "alpha": jnp.exp(log_alpha)}
