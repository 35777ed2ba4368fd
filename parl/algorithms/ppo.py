"""Proximal policy optimisation.

Schulman et al. 2017, arXiv:1707.06347; advantages by arXiv:1506.02438, or by V-trace for rollouts
of older policies. With several agents it is IPPO (arXiv:2011.09533), or MAPPO (arXiv:2103.01955) if
the critic sees the global state. Shapes: T time, B environments, M = T * B / minibatches, or B /
minibatches sequences [M, T]; arrays of N agents have N after these axes.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from parl import ops
from parl.algorithms.shared.actor_critic import ActorCritic, ActorCriticState
from parl.algorithms.shared.minibatches import as_samples, swap_axes, sweep
from parl.algorithms.wrappers.normalized import Stats
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, descend, static


class Sample(struct.PyTreeNode):
    """One minibatch, leaves [M, ...], or [M, T, ...] for recurrent networks."""

    obs: Any
    first: Array
    action: Array
    log_prob: Array  # of the action, under the policy before the update
    value: Array  # of obs, under the critic before the update
    advantage: Array
    target: Array  # regression target of the value
    memory: Any  # [M, ...] before the first step
    active: Any = None  # mask of agents' samples to learn from; None for a single agent


class PPO(ActorCritic):
    """Clipped surrogate objective over several epochs of one rollout [T, B, ...]."""

    epochs: int = static(default=4)
    minibatches: int = static(default=4)
    clip_value: bool = static(default=False)
    target_kl: float | None = static(default=None)  # stop the steps of this update beyond it
    huber_delta: float | None = static(default=None)  # value errors are linear beyond it
    normalize_value: bool = static(default=False)  # train the critic on targets of unit variance
    clip: float = 0.2

    @property
    def steps_per_update(self) -> int:
        return self.epochs * self.minibatches

    def init(self, key: Array, spec: EnvSpec) -> ActorCriticState:
        state = super().init(key, spec)
        return state.replace(values=Stats.zeros(())) if self.normalize_value else state

    def update(
        self, state: ActorCriticState, batch: Rollout, key: Array
    ) -> tuple[ActorCriticState, Metrics]:
        data, values = self.data(state, batch), state.values
        if self.normalize_value:
            values = values.merge_active(data.target, data.active)
            data = data.replace(value=values.scale(data.value), target=values.scale(data.target))

        def step(carry: tuple[Net, Array], minibatch: Sample) -> tuple[tuple[Net, Array], Metrics]:
            net, stopped = carry
            stepped, metrics = descend(self.transformation, self.loss, net, minibatch)
            if self.target_kl is not None:
                stopped = stopped | (metrics["kl"] > self.target_kl)
                stepped = jax.tree.map(lambda old, new: jnp.where(stopped, old, new), net, stepped)
            return (stepped, stopped), metrics

        carry = state.net, jnp.zeros((), bool)
        (net, _), metrics = sweep(step, carry, data, key, self.epochs, self.minibatches)
        return state.replace(net=net, values=values), metrics

    def data(self, state: ActorCriticState, batch: Rollout) -> Sample:
        """What one update learns from."""
        return self.samples(state.net.params, batch, state.values)

    def samples(self, params: Params, batch: Rollout, values: Any = ()) -> Sample:
        """The whole rollout as samples, with values and advantages under `params`.

        `values` holds the moments of normalised values, if `normalize_value`. With V-trace the
        clipped ratio is relative to the policy before the update, otherwise to the acting policy;
        the two are equal on-policy.
        """
        steps, acted = batch.steps, batch.steps.extras["log_prob"]
        pi, value, next_value = self.values_of(params, batch)
        if self.normalize_value:
            value, next_value = values.restore(value), values.restore(next_value)
        log_prob = pi.log_prob(steps.action) if self.corrected else acted
        deltas = self.transitions(steps, value, next_value)
        advantage, target = self.targets(log_prob - acted, deltas)
        fields = steps.obs, steps.first, steps.action, log_prob, value, advantage, target
        fields = Sample(*fields, memory=(), active=deltas.active)
        return as_samples(fields, self.is_recurrent).replace(memory=batch.memory)

    def loss(self, params: Params, batch: Sample) -> tuple[Array, Metrics]:
        """Eq. 9: clipped surrogate, squared value error and entropy."""
        memory, batch = batch.memory, batch.replace(memory=())
        if self.is_recurrent:
            batch = swap_axes(batch)
        pi, value, _ = self.unroll(params, batch.obs, batch.first, memory)
        active = batch.active
        log_ratio = ops.masked(pi.log_prob(batch.action) - batch.log_prob, active)
        ratio = jnp.exp(log_ratio)
        advantage = ops.standardize(batch.advantage, active)
        clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        policy_loss = -ops.mean(jnp.minimum(ratio * advantage, clipped * advantage), active)
        entropy = ops.mean(pi.entropy(), active)
        loss, metrics = self.total(policy_loss, self.value_loss(value, batch), entropy)
        kl = ops.mean(ratio - 1 - log_ratio, active)  # Schulman 2020, the k3 estimator
        more, told = self.penalty(pi, batch)
        return loss + more, metrics | {"kl": kl} | told

    def penalty(self, pi: Any, batch: Any) -> tuple[Any, Metrics]:
        """A further term of the loss, with its metrics; none in PPO."""
        return 0.0, {}

    def value_loss(self, value: Array, batch: Sample) -> Array:
        """Half the squared error; with `clip_value`, its maximum with that of the clipped value."""
        error = self.distance(value - batch.target)
        if self.clip_value:
            step = jnp.clip(value - batch.value, -self.clip, self.clip)
            error = jnp.maximum(error, self.distance(batch.value + step - batch.target))
        return 0.5 * ops.mean(error, batch.active)

    def distance(self, error: Array) -> Array:
        """The squares [...] of errors [...], linear beyond `huber_delta`."""
        return error**2 if self.huber_delta is None else 2 * ops.huber(error, self.huber_delta)
