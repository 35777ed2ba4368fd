"""Deep Q-network with double estimation.

Mnih et al. 2015, doi:10.1038/nature14236; van Hasselt et al. 2016, arXiv:1509.06461.
Dueling (arXiv:1511.06581) is a choice of network. Shapes: B batch, O observation, A actions.
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


class DQNState(struct.PyTreeNode):
    """Everything DQN learns, and its two clocks."""

    net: Net
    target: Params  # late or slow copy of net.params
    env_steps: Array  # [] int32, drives exploration
    updates: Array  # [] int32, drives the target copy


class DQNPolicy(struct.PyTreeNode):
    """What acting needs: exploration travels with the weights."""

    params: Params
    epsilon: Array  # []


class DQN(Algorithm):
    """One-step Q-learning; batches are single steps [B, ...]."""

    q: Model = static(default=None)  # obs [B, O] -> [B, A]
    double: bool = static(default=True)
    anneal_updates: int = static(default=0)  # rate falls linearly to 0 over them; 0: constant
    learning_rate: float = 1e-4
    gamma: float = 0.99
    target_period: int = 1000  # updates between two moves of the target
    tau: float = 1.0  # how far the target moves: 1 copies
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_steps: int = 10_000  # environment steps from start to end
    max_grad_norm: float = 10.0
    huber_delta: float = 1.0  # errors count squared below it, linearly beyond

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam behind a global norm clip, annealed if asked for."""
        rate = self.learning_rate
        if self.anneal_updates:
            rate = optax.linear_schedule(self.learning_rate, 0.0, self.anneal_updates)
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), optax.adam(rate))

    @property
    def tolerates_lag(self) -> bool:
        return True

    def init(self, key: Array, spec: EnvSpec) -> DQNState:
        params = self.q.init(key, spec.obs)
        return DQNState(
            net=Net(params, self.optimizer.init(params)),
            target=jax.tree.map(jnp.copy, params),  # a donated buffer may not appear twice
            env_steps=jnp.zeros((), jnp.int32),
            updates=jnp.zeros((), jnp.int32),
        )

    def policy(self, state: DQNState) -> DQNPolicy:
        done = jnp.clip(state.env_steps / self.epsilon_steps, 0.0, 1.0)
        epsilon = self.epsilon_start + done * (self.epsilon_end - self.epsilon_start)
        return DQNPolicy(state.net.params, epsilon)

    def act(
        self, policy: DQNPolicy, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        q, legal = self.q.apply(policy.params, obs), ops.legal_actions(obs)
        if explore:
            return ops.epsilon_greedy(key, q, policy.epsilon, legal), memory, {}
        q = q if legal is None else ops.mask_illegal(q, legal)
        return jnp.argmax(q, -1).astype(jnp.int32), memory, {}

    def observe(self, state: DQNState, rollout: Rollout) -> DQNState:
        return state.replace(env_steps=state.env_steps + rollout.steps.first.size)

    def update(self, state: DQNState, batch: Step, key: Array) -> tuple[DQNState, Metrics]:
        net, metrics = descend(self.optimizer, self.loss, state.net, state.target, batch)
        updates = state.updates + 1
        moved = optax.incremental_update(net.params, state.target, self.tau)
        target = optax.periodic_update(moved, state.target, updates, self.target_period)
        return state.replace(net=net, target=target, updates=updates), metrics

    def loss(self, params: Params, target_params: Params, batch: Step) -> tuple[Array, Metrics]:
        """Huber loss of the TD error; the double target is van Hasselt et al., eq. 4.

        Where the batch has a `weight` [B] in its extras, it weighs the samples.
        """
        q = ops.select(self.q.apply(params, batch.obs), batch.action)  # [B]
        next_q = self.q.apply(target_params, batch.next_obs)  # [B, A]
        chooser = self.q.apply(params, batch.next_obs) if self.double else next_q
        legal = ops.legal_actions(batch.next_obs)
        chooser = chooser if legal is None else ops.mask_illegal(chooser, legal)
        next_value = ops.select(next_q, jnp.argmax(chooser, -1))
        target = batch.reward + self.gamma * batch.discount * next_value
        error = q - jax.lax.stop_gradient(target)
        weight = batch.extras.get("weight", 1.0)
        loss = (ops.huber(error, self.huber_delta) * weight).mean()
        return loss, {"loss": loss, "q": q.mean(), "td_error": jnp.abs(error)}
