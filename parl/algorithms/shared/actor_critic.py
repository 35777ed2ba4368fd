"""Base of the on-policy actor-critics: networks, acting, values and advantages.

Either network may be recurrent; see parl/models/recurrent.py. Both may share one encoder, which is
then trained by both. With several agents the critic's values are [..., N] and only active agents
contribute to the losses; see parl/ops/agents.py. Shapes: T time, B environments, N agents.
"""

from typing import Any, NamedTuple

import jax
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.optimizers import Optimizer, annealed, clipped
from parl.core.algorithm import Algorithm
from parl.core.bound import bound
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, Step, Strategy, static
from parl.models import modes, recurrent
from parl.models.encoder import with_masks


class ActorCriticState(struct.PyTreeNode):
    """The learned state; the step count of annealing is in the optimiser state."""

    net: Net  # params: {"actor": ..., "critic": ...}, and "encoder" if shared
    values: Any = ()  # moments of the value targets, if these are normalised


class Memory(NamedTuple):
    """Memories of the two networks, [B, ...] each, or () for a feed-forward one."""

    actor: Any = ()
    critic: Any = ()


class ActorCritic(Algorithm):
    """Base of the algorithms that learn a policy and its values from rollouts [T, B, ...].

    If `corrected`, advantages and value targets are those of V-trace (Espeholt et al. 2018,
    arXiv:1802.01561) and rollouts may come from older policies. Otherwise they are generalised
    advantage estimates (Schulman et al. 2015, arXiv:1506.02438).
    """

    encoder: Model = static(default=None)  # obs -> features for actor and critic, if shared
    actor: Model = static(default=None)  # obs -> distribution
    critic: Model = static(default=None)  # obs -> [...]
    optimizer: Optimizer = static(default=bound(optax.adam, eps=1e-5))
    corrected: bool = static(default=False)
    team_reward: bool = static(default=False)  # each agent gets the sum of all agents' rewards
    anneal_updates: int = static(default=0)  # updates over which the rate falls to 0; 0: constant
    learning_rate: float = 3e-4
    gamma: float = 0.99
    lambda_: float = 0.95
    entropy_cost: float = 0.0
    value_cost: float = 0.5
    max_grad_norm: float = 0.5

    @property
    def tolerates_lag(self) -> bool:
        return self.corrected

    @property
    def steps_per_update(self) -> int:
        """Optimiser steps per update."""
        return 1

    @property
    def rate(self) -> Any:
        """The learning rate, as a schedule if it is annealed."""
        return annealed(self.learning_rate, self.anneal_updates * self.steps_per_update)

    @property
    def transformation(self) -> optax.GradientTransformation:
        """The optimiser at this rate, after clipping by the global norm."""
        return clipped(self.optimizer(self.rate), self.max_grad_norm)

    @property
    def is_recurrent(self) -> bool:
        """Whether either network is recurrent."""
        return recurrent.is_recurrent(self.actor) or recurrent.is_recurrent(self.critic)

    def init(self, key: Array, spec: EnvSpec) -> Any:
        k_actor, k_critic = jax.random.split(key)
        params = {}
        if self.encoder is not None:
            params["encoder"] = modes.init(self.encoder, jax.random.fold_in(key, 2), spec.obs)
        obs = self.encode(params, spec.obs)
        params["actor"] = recurrent.init(self.actor, k_actor, obs)
        params["critic"] = recurrent.init(self.critic, k_critic, obs)
        return ActorCriticState(Net(params, self.transformation.init(params)))

    def encode(self, params: Params, obs: Any) -> Any:
        """The input of actor and critic: obs, or its features [..., F] with the masks of obs."""
        if self.encoder is None:
            return obs
        seen = with_masks(self.encoder.apply(params["encoder"], obs), obs)
        return seen if len(seen) > 1 else seen["output"]

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        if not self.is_recurrent:
            return ()
        memory_of = recurrent.memory_of
        return Memory(memory_of(self.actor, batch_shape), memory_of(self.critic, batch_shape))

    def policy(self, state: ActorCriticState) -> Params:
        """All parameters except the critic's, which is kept if it is recurrent."""
        params = state.net.params
        if recurrent.is_recurrent(self.critic):
            return params
        return {name: part for name, part in params.items() if name != "critic"}

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        pi, memory = self.acting(policy, obs, memory)
        if not explore:
            return pi.mode(), memory, {}
        action, log_prob = pi.sample_and_log_prob(key)
        return action, memory, {"log_prob": log_prob}

    def acting(self, policy: Params, obs: Any, memory: Any) -> tuple[Any, Any]:
        """(distribution over actions for obs [B, *O], the next memory)."""
        actor, critic = memory or Memory()
        obs = self.encode(policy, obs)
        pi, actor = recurrent.step(self.actor, policy["actor"], obs, actor)
        if recurrent.is_recurrent(self.critic):
            _, critic = recurrent.step(self.critic, policy["critic"], obs, critic)
        return pi, Memory(actor, critic) if memory else memory

    def strategy(self, policy: Params, obs: Any, memory: Any) -> tuple[Strategy, Any]:
        """The probabilities with which `act` samples."""
        pi, memory = self.acting(policy, obs, memory)
        return Strategy(pi.probs), memory

    def unroll(self, params: Params, obs: Any, first: Array, memory: Any) -> tuple[Any, Array, Any]:
        """(policies, values [T, B], the critic's memory after each step) of sequences."""
        actor, critic = memory or Memory()
        obs = self.encode(params, obs)
        pi, _ = recurrent.unroll(self.actor, params["actor"], obs, first, actor)
        value, memories = recurrent.unroll(self.critic, params["critic"], obs, first, critic)
        return pi, value, memories

    def values_of(self, params: Params, batch: Rollout) -> tuple[Any, Array, Array]:
        """(policies, values, values of next_obs) [T, B, ...] of a rollout.

        A recurrent critic evaluates each next_obs with its memory of that episode.
        """
        steps = batch.steps
        pi, value, memories = self.unroll(params, steps.obs, steps.first, batch.memory)
        critic = lambda obs, memory: recurrent.step(
            self.critic, params["critic"], self.encode(params, obs), memory
        )
        next_value = recurrent.following(critic, steps.next_obs, memories, value, ops.cut(steps))
        return pi, value, next_value

    def transitions(self, steps: Step, value: Array, next_value: Array) -> ops.Transitions:
        """Arguments of the return estimators, from values [T, B, ...] at obs and next_obs."""
        if ops.active_agents(steps.obs) is None:
            tail = steps.last, value, next_value, self.lambda_
            return ops.Transitions(steps.reward, self.gamma * steps.discount, *tail)
        of_agents = ops.member_transitions if self.team_reward else ops.own_transitions
        return of_agents(steps, value, next_value, self.gamma, self.lambda_)

    def targets(self, log_rhos: Array, deltas: ops.Transitions) -> tuple[Array, Array]:
        """(advantages, value targets) [T, B, ...], without gradients.

        log_rhos is the log-probability of the actions under the current policy minus that under the
        acting policy. Only V-trace uses it.
        """
        if self.corrected:
            log_rhos = ops.masked(log_rhos, deltas.active)
            target, advantage, _ = ops.vtrace(log_rhos, *deltas.arguments)
        else:
            advantage = ops.gae(*deltas.arguments)
            target = deltas.value + advantage
        return jax.lax.stop_gradient((advantage, target))

    def total(self, policy_loss: Array, value_loss: Array, entropy: Array) -> tuple[Array, Metrics]:
        """The weighted sum [] of the three losses, and the losses as metrics."""
        loss = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy
        return loss, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
