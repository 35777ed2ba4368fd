"""Counterfactual multi-agent policy gradients.

Foerster et al. 2018, arXiv:1705.08926. A critic values every action that an agent could have taken,
given the actions of the others. Its expectation under the agent's policy is the baseline. Shapes: T
time, B environments, N agents, A actions.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.actor_critic import ActorCritic
from parl.algorithms.shared.minibatches import as_samples, sweep
from parl.algorithms.shared.optimizers import clipped
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, Step, descend, static
from parl.models import modes, recurrent


class COMAState(struct.PyTreeNode):
    """Everything COMA learns."""

    net: Net  # params: {"actor": ...}
    critic: Net
    target: Params  # delayed copy of the critic's parameters
    updates: Array  # [] int32


class Sample(struct.PyTreeNode):
    """Training data of the critic, leaves [T * B, ...]."""

    obs: Any
    action: Array  # [..., N]
    target: Array  # [..., N]
    active: Array  # [..., N]


class COMA(ActorCritic):
    """One policy gradient step on each rollout [T, B, ...], after several steps of the critic.

    The critic takes the observation and, for each agent, the other agents' actions as one vector
    [..., N, N * A]. It returns the values of all of the agent's own actions, [..., N, A].
    """

    epochs: int = static(default=4)  # of the critic
    minibatches: int = static(default=4)
    target_period: int = 4  # updates between two copies to the target
    critic_learning_rate: float = 1e-3

    @property
    def critic_optimizer(self) -> optax.GradientTransformation:
        """Adam after clipping by the global norm."""
        return clipped(optax.adam(self.critic_learning_rate), self.max_grad_norm)

    def init(self, key: Array, spec: EnvSpec) -> COMAState:
        k_actor, k_critic = jax.random.split(key)
        actor = {"actor": recurrent.init(self.actor, k_actor, spec.obs)}
        count = spec.obs["legal"].shape[-1]
        others = others_of(jnp.asarray(spec.action), spec.obs, count)
        critic = modes.init(self.critic, k_critic, spec.obs, others)
        return COMAState(
            net=Net(actor, self.transformation.init(actor)),
            critic=Net(critic, self.critic_optimizer.init(critic)),
            target=jax.tree.map(jnp.copy, critic),  # a donated buffer may not appear twice
            updates=jnp.zeros((), jnp.int32),
        )

    def update(self, state: COMAState, batch: Rollout, key: Array) -> tuple[COMAState, Metrics]:
        k_next, k_sweep = jax.random.split(key)
        data = self.samples(state, batch, k_next)
        step = lambda net, part: descend(self.critic_optimizer, self.critic_loss, net, part)
        critic, info = sweep(step, state.critic, data, k_sweep, self.epochs, self.minibatches)
        net, more = descend(self.transformation, self.loss, state.net, critic.params, batch)
        updates = state.updates + 1
        target = optax.periodic_update(critic.params, state.target, updates, self.target_period)
        return COMAState(net, critic, target, updates), info | more

    def samples(self, state: COMAState, batch: Rollout, key: Array) -> Sample:
        """The rollout with TD(lambda) targets of the target critic, section 4.

        The next state is valued under the current policies: the expectation over an agent's own
        actions, with sampled actions of the others.
        """
        steps, params = batch.steps, state.net.params["actor"]
        actor, _ = batch.memory or ((), ())
        pi, memories = recurrent.unroll(self.actor, params, steps.obs, steps.first, actor)
        step = partial(recurrent.step, self.actor, params)
        pi = recurrent.following(step, steps.next_obs, memories, pi, ops.cut(steps))
        next_q = self.values(state.target, steps.next_obs, pi.sample(key))
        next_value = (pi.probs * next_q).sum(-1)  # [T, B, N]
        deltas = self.transitions(steps, next_value, next_value)
        reward, discount, last, _, following, lambda_, active = deltas
        target = ops.lambda_returns(reward, discount, last, following, lambda_)
        return as_samples(Sample(steps.obs, steps.action, target, active))

    def values(self, params: Params, obs: Any, action: Array) -> Array:
        """Values [..., N, A] of each agent's actions, given all agents' actions [..., N]."""
        count = obs["legal"].shape[-1]
        return self.critic.apply(params, obs, others_of(action, obs, count))

    def critic_loss(self, params: Params, batch: Sample) -> tuple[Array, Metrics]:
        """Half the squared error of the values of the actions taken."""
        q = ops.select(self.values(params, batch.obs, batch.action), batch.action)
        error = q - jax.lax.stop_gradient(batch.target)
        loss = 0.5 * ops.mean(error**2, batch.active)
        return loss, {"critic_loss": loss, "q": ops.mean(q, batch.active)}

    def loss(self, params: Params, critic: Params, batch: Rollout) -> tuple[Array, Metrics]:
        """Eq. 4 and 5: policy gradient by the counterfactual advantage, and entropy."""
        steps: Step = batch.steps
        actor, _ = batch.memory or ((), ())
        pi, _ = recurrent.unroll(self.actor, params["actor"], steps.obs, steps.first, actor)
        q = self.values(critic, steps.obs, steps.action)
        advantage = jax.lax.stop_gradient(counterfactual(q, pi.probs, steps.action))
        active = ops.active_agents(steps.obs)
        policy_loss = -ops.mean(pi.log_prob(steps.action) * advantage, active)
        entropy = ops.mean(pi.entropy(), active)
        loss = policy_loss - self.entropy_cost * entropy
        return loss, {"policy_loss": policy_loss, "entropy": entropy}


def counterfactual(q: Array, probs: Array, action: Array) -> Array:
    """Advantages [...] of actions [...] with values q [..., A] under a policy [..., A], eq. 4."""
    return ops.select(q, action) - (probs * q).sum(-1)


def others_of(action: Array, obs: Any, count: int) -> Array:
    """Actions [..., N] in 0 .. count - 1 as each agent's critic sees them, [..., N, N * A].

    One-hot, and 0 for the agent itself and for agents that are not active.
    """
    agents, active = action.shape[-1], ops.active_agents(obs)
    taken = ops.masked(jax.nn.one_hot(action, count), jnp.asarray(active)[..., None])
    other = ~jnp.eye(agents, dtype=bool)[..., None]  # [N, N, 1]
    joint = jnp.where(other, taken[..., None, :, :], 0.0)  # [..., N, N, A]
    return joint.reshape(*joint.shape[:-2], -1)
