"""Proximal policy optimisation.

Schulman et al. 2017, arXiv:1707.06347; advantages by arXiv:1506.02438, or by V-trace for rollouts
of older policies. The agent axis, if there is one, is one more batch axis.
Shapes: T time, B environments, M = T * B / minibatches, or B / minibatches sequences [M, T].
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from parl import ops
from parl.algorithms.actor_critic import ActorCritic, ActorCriticState
from parl.core.sharding import as_batch
from parl.core.types import Array, Metrics, Net, Params, Rollout, descend, static


class Sample(struct.PyTreeNode):
    """What one minibatch holds, leaves [M, ...], or [M, T, ...] where networks are recurrent."""

    obs: Any
    first: Array
    action: Array
    log_prob: Array  # of the action under the policy that the update starts from
    value: Array  # of obs under the critic that the update starts from
    advantage: Array
    target: Array  # what the value regresses to
    memory: Any  # [M, ...] before the first step


class PPO(ActorCritic):
    """Clipped surrogate objective over several epochs of one rollout [T, B, ...]."""

    epochs: int = static(default=4)
    minibatches: int = static(default=4)
    clip_value: bool = static(default=False)
    target_kl: float | None = static(default=None)  # no further step of this update beyond it
    clip: float = 0.2

    @property
    def steps_per_update(self) -> int:
        return self.epochs * self.minibatches

    def update(
        self, state: ActorCriticState, batch: Rollout, key: Array
    ) -> tuple[ActorCriticState, Metrics]:
        data = self.samples(state.net.params, batch)

        def step(carry: tuple[Net, Array], index: Any) -> tuple[tuple[Net, Array], Metrics]:
            net, stopped = carry
            minibatch = as_batch(jax.tree.map(lambda x: x[index], data))
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

    def samples(self, params: Params, batch: Rollout) -> Sample:
        """The whole rollout as samples, with values and advantages under `params`.

        Behind V-trace the clipped ratio is to the policy that the update starts from, else to the
        one that acted, which on-policy is the same.
        """
        steps, acted = batch.steps, batch.steps.extras["log_prob"]
        pi, value, next_value = self.evaluate(params, batch)
        log_prob = pi.log_prob(steps.action) if self.corrected else acted
        advantage, target = self.targets(log_prob - acted, steps, value, next_value)
        fields = steps.obs, steps.first, steps.action, log_prob, value, advantage, target
        if self.is_recurrent:
            fields = swap_axes(fields)
        else:
            fields = jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *x.shape[2:]), fields)
        return Sample(*fields, memory=batch.memory)

    def loss(self, params: Params, batch: Sample) -> tuple[Array, Metrics]:
        """Eq. 9: clipped surrogate, squared value error and entropy."""
        memory, batch = batch.memory, batch.replace(memory=())
        if self.is_recurrent:
            batch = swap_axes(batch)
        pi, value, _ = self.unroll(params, batch.obs, batch.first, memory)
        log_ratio = pi.log_prob(batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
        clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        policy_loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
        loss, metrics = self.total(policy_loss, self.value_loss(value, batch), pi.entropy().mean())
        kl = jnp.mean(ratio - 1 - log_ratio)  # Schulman 2020, the k3 estimator
        return loss, metrics | {"kl": kl}

    def value_loss(self, value: Array, batch: Sample) -> Array:
        """Half the squared error; with `clip_value` the larger of it and that of a clipped step."""
        error = (value - batch.target) ** 2
        if self.clip_value:
            step = jnp.clip(value - batch.value, -self.clip, self.clip)
            error = jnp.maximum(error, (batch.value + step - batch.target) ** 2)
        return 0.5 * error.mean()


def swap_axes(tree: Any) -> Any:
    """Leaves [T, B, ...] as [B, T, ...], and back."""
    return jax.tree.map(lambda x: jnp.asarray(x).swapaxes(0, 1), tree)
