"""Proximal policy optimisation.

Schulman et al. 2017, arXiv:1707.06347; advantages by arXiv:1506.02438. The agent axis, if there is
one, is one more batch axis. Shapes: T time, B environments, M = T * B / minibatches.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, Step, descend, static


class PPOState(struct.PyTreeNode):
    """Everything PPO learns; annealing counts inside the optimiser state."""

    net: Net  # params: {"actor": ..., "critic": ...}


class Sample(struct.PyTreeNode):
    """What one minibatch holds, leaves [M, ...]."""

    obs: Any
    action: Array
    log_prob: Array  # of the action under the acting policy
    value: Array  # of obs under the acting critic
    advantage: Array


class PPO(Algorithm):
    """Clipped surrogate objective over several epochs of one rollout [T, B, ...]."""

    actor: Model = static(default=None)  # obs -> distribution
    critic: Model = static(default=None)  # obs -> [...]
    epochs: int = static(default=4)
    minibatches: int = static(default=4)
    clip_value: bool = static(default=False)
    target_kl: float | None = static(default=None)  # no further step of this update beyond it
    anneal_updates: int = static(default=0)  # rate falls linearly to 0 over them; 0: constant
    learning_rate: float = 3e-4
    gamma: float = 0.99
    lambda_: float = 0.95
    clip: float = 0.2
    entropy_cost: float = 0.0
    value_cost: float = 0.5
    max_grad_norm: float = 0.5

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam behind a global norm clip, annealed if asked for."""
        rate = self.learning_rate
        if self.anneal_updates:
            steps = self.anneal_updates * self.epochs * self.minibatches
            rate = optax.linear_schedule(self.learning_rate, 0.0, steps)
        clip = optax.clip_by_global_norm(self.max_grad_norm)
        return optax.chain(clip, optax.adam(rate, eps=1e-5))

    def init(self, key: Array, spec: EnvSpec) -> PPOState:
        k_actor, k_critic = jax.random.split(key)
        params = {
            "actor": self.actor.init(k_actor, spec.obs),
            "critic": self.critic.init(k_critic, spec.obs),
        }
        return PPOState(Net(params, self.optimizer.init(params)))

    def policy(self, state: PPOState) -> Params:
        return state.net.params["actor"]

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        pi = self.actor.apply(policy, obs)
        if not explore:
            return pi.mode(), memory, {}
        action, log_prob = pi.sample_and_log_prob(key)
        return action, memory, {"log_prob": log_prob}

    def update(self, state: PPOState, batch: Rollout, key: Array) -> tuple[PPOState, Metrics]:
        data = self.samples(state.net.params["critic"], batch.steps)

        def step(carry: tuple[Net, Array], index: Any) -> tuple[tuple[Net, Array], Metrics]:
            net, stopped = carry
            minibatch = jax.tree.map(lambda x: x[index], data)
            stepped, metrics = descend(self.optimizer, self.loss, net, minibatch)
            if self.target_kl is not None:
                stopped = stopped | (metrics["kl"] > self.target_kl)
                stepped = jax.tree.map(lambda old, new: jnp.where(stopped, old, new), net, stepped)
            return (stepped, stopped), metrics

        def epoch(carry: tuple[Net, Array], key: Array) -> tuple[tuple[Net, Array], Metrics]:
            if self.minibatches == 1:
                return step(carry, slice(None))  # all of it, in any order
            order = ops.permutation(key, data.value.shape[0])
            return jax.lax.scan(step, carry, order.reshape(self.minibatches, -1))

        carry = state.net, jnp.zeros((), bool)
        (net, _), metrics = jax.lax.scan(epoch, carry, jax.random.split(key, self.epochs))
        return state.replace(net=net), jax.tree.map(jnp.mean, metrics)

    def samples(self, critic: Params, steps: Step) -> Sample:
        """Values and advantages of the whole rollout, flattened to [T * B, ...]."""
        value = self.critic.apply(critic, steps.obs)
        next_value = self.critic.apply(critic, steps.next_obs)
        discount = self.gamma * steps.discount
        advantage = ops.gae(steps.reward, discount, steps.last, value, next_value, self.lambda_)
        sample = Sample(steps.obs, steps.action, steps.extras["log_prob"], value, advantage)
        return jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *x.shape[2:]), sample)

    def loss(self, params: Params, batch: Sample) -> tuple[Array, Metrics]:
        """Eq. 9: clipped surrogate, squared value error and entropy."""
        pi = self.actor.apply(params["actor"], batch.obs)
        log_ratio = pi.log_prob(batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
        clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        policy_loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
        value_loss = self.value_loss(self.critic.apply(params["critic"], batch.obs), batch)
        entropy = pi.entropy().mean()
        loss = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy
        return loss, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": jnp.mean(ratio - 1 - log_ratio),  # Schulman 2020, the k3 estimator
        }

    def value_loss(self, value: Array, batch: Sample) -> Array:
        """Half the squared error; with `clip_value` the larger of it and that of a clipped step."""
        target = batch.value + batch.advantage
        error = (value - target) ** 2
        if self.clip_value:
            step = jnp.clip(value - batch.value, -self.clip, self.clip)
            error = jnp.maximum(error, (batch.value + step - target) ** 2)
        return 0.5 * error.mean()
