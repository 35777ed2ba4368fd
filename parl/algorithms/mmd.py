"""Magnetic mirror descent: PPO whose policy is drawn to a magnet, for games of two players.

Sokota et al. 2023, arXiv:2206.05825, eq. 8 and section 5: for advantages A, a magnet rho and the
policy pi_t before the update, it minimises

    -E[A(a)] + alpha KL(pi, rho) + (1 / eta) KL(pi, pi_t),

here with the clipped surrogate of PPO in place of the first term. With a uniform magnet the last
iterate goes to the equilibrium of strength alpha, which is annealed. A magnet that is a copy of the
policy, made anew every so often, needs no annealing; with `transform_rewards` that is regularised
Nash dynamics (R-NaD: Perolat et al. 2022, arXiv:2206.15378, eq. 3), in which each player i gets

    r_i - alpha log(pi_i(a_i) / rho_i(a_i)) + alpha sum_j log(pi_j(a_j) / rho_j(a_j)),  j != i.

Advantages are standardised, and alpha of the loss is in units of theirs; in rewards it is in units
of reward. Shapes as in PPO; A actions.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from parl import ops
from parl.algorithms.ppo import PPO, Sample
from parl.algorithms.shared.actor_critic import ActorCriticState
from parl.algorithms.shared.minibatches import as_samples
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Params, Rollout, Step, static


class MMDState(ActorCriticState):
    """The learned state of PPO, with the magnet."""

    magnet: Params = ()  # parameters of the actor; () for the uniform magnet
    updates: Any = 0  # [] int32


class MagnetSample(Sample):
    """A minibatch of PPO, with the distributions that the policy is held to."""

    magnet: Any = None  # [M, ..., A] log-probabilities
    before: Any = None  # [M, ..., A] log-probabilities under the policy before the update
    alpha: Any = None  # [M] weight of the magnet


class MMD(PPO):
    """PPO with KL terms to a magnet and to the policy before the update."""

    magnet_every: int = static(default=0)  # updates between copies to the magnet; 0: uniform
    transform_rewards: bool = static(default=False)  # the magnet's term is in rewards: R-NaD
    magnet_cost: float = 0.1  # alpha at the beginning
    magnet_cost_end: float = 0.01  # and at the end of the annealing
    step_cost: float = 0.0  # 1 / eta

    def init(self, key: Array, spec: EnvSpec) -> MMDState:
        state = super().init(key, spec)
        copied = jax.tree.map(jnp.copy, state.net.params["actor"]) if self.magnet_every else ()
        return MMDState(state.net, state.values, copied, jnp.zeros((), jnp.int32))

    def alpha(self, updates: Array) -> Array:
        """The magnet's weight, which falls geometrically over `anneal_updates`, if any."""
        if not self.anneal_updates:
            return jnp.asarray(self.magnet_cost)
        done = jnp.minimum(updates / self.anneal_updates, 1.0)
        end = self.magnet_cost_end / jnp.maximum(self.magnet_cost, 1e-12)
        return self.magnet_cost * end**done

    def update(self, state: Any, batch: Rollout, key: Array) -> tuple[MMDState, Metrics]:
        state, metrics = super().update(state, batch, key)
        updates, magnet = state.updates + 1, state.magnet
        if self.magnet_every:
            due = updates % self.magnet_every == 0
            newest = state.net.params["actor"]
            magnet = jax.tree.map(lambda new, old: jnp.where(due, new, old), newest, magnet)
        metrics |= {"magnet_cost": self.alpha(state.updates)}
        return state.replace(magnet=magnet, updates=updates), metrics

    def data(self, state: Any, batch: Rollout) -> MagnetSample:
        steps, alpha = batch.steps, self.alpha(state.updates)
        pi = self.unroll(state.net.params, steps.obs, steps.first, batch.memory)[0]
        magnet = self.magnet(state, batch)
        if self.transform_rewards:
            gap = pi.log_prob(steps.action) - magnet.log_prob(steps.action)
            steps = steps._replace(reward=transformed(steps, gap, alpha))
            alpha = jnp.zeros_like(alpha)
        plain = super().data(state, batch._replace(steps=steps))
        held = magnet.log_probs, pi.log_probs, jnp.broadcast_to(alpha, steps.first.shape)
        held = jax.lax.stop_gradient(as_samples(held, self.is_recurrent))
        fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
        return MagnetSample(**fields, magnet=held[0], before=held[1], alpha=held[2])

    def magnet(self, state: MMDState, batch: Rollout) -> Any:
        """The magnet's distributions [T, B, ...] in a rollout."""
        steps = batch.steps
        if not self.magnet_every:
            legal = steps.obs["legal"]
            return ops.Categorical(jnp.zeros(legal.shape)).masked(legal)
        params = {**state.net.params, "actor": state.magnet}
        return self.unroll(params, steps.obs, steps.first, batch.memory)[0]

    def penalty(self, pi: Any, batch: MagnetSample) -> tuple[Array, Metrics]:
        """alpha KL(pi, rho) + (1 / eta) KL(pi, pi_t), averaged over the agents that acted."""
        to = lambda log_probs: pi.kl(ops.Categorical(log_probs))
        magnet, step = to(batch.magnet), to(batch.before)
        alpha = ops.expand_like(batch.alpha, magnet)
        total = ops.mean(alpha * magnet + self.step_cost * step, batch.active)
        return total, {"magnet_kl": ops.mean(magnet, batch.active)}


def transformed(steps: Step, gap: Array, alpha: Array) -> Array:
    """R-NaD's rewards [T, B, N], from log(pi(a) / rho(a)) [T, B, N] of all agents."""
    moved = ops.masked(gap, ops.active_agents(steps.obs))
    return steps.reward + alpha * (moved.sum(-1, keepdims=True) - 2 * moved)
