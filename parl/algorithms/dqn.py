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
from parl.algorithms.shared.q_learning import QLearning, greedy
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Step, descend, static
from parl.models import modes


class DQNState(struct.PyTreeNode):
    """The learned state of DQN and its two counters."""

    net: Net
    target: Params  # delayed or averaged copy of net.params
    env_steps: Array  # [] int32, drives exploration
    updates: Array  # [] int32, drives the target copy


class DQN(QLearning):
    """One-step Q-learning; batches are single steps [B, ...]."""

    double: bool = static(default=True)
    target_period: int = 1000  # updates between two updates of the target
    tau: float = 1.0  # step size of the target towards the network; 1 copies
    huber_delta: float = 1.0  # errors are squared below it, linear beyond

    @property
    def tolerates_lag(self) -> bool:
        return True

    def init(self, key: Array, spec: EnvSpec) -> DQNState:
        return self.start(modes.init(self.q, key, spec.obs))

    def start(self, params: Params) -> DQNState:
        """The state before the first update of these parameters."""
        return DQNState(
            net=Net(params, self.transformation.init(params)),
            target=jax.tree.map(jnp.copy, params),  # a donated buffer may not appear twice
            env_steps=jnp.zeros((), jnp.int32),
            updates=jnp.zeros((), jnp.int32),
        )

    def update(self, state: DQNState, batch: Step, key: Array) -> tuple[DQNState, Metrics]:
        net, metrics = descend(self.transformation, self.loss, state.net, state.target, batch)
        updates = state.updates + 1
        moved = optax.incremental_update(net.params, state.target, self.tau)
        target = optax.periodic_update(moved, state.target, updates, self.target_period)
        return state.replace(net=net, target=target, updates=updates), metrics

    def loss(self, params: Params, target_params: Params, batch: Any) -> tuple[Array, Metrics]:
        """Huber loss of the TD error; the double target is van Hasselt et al., eq. 4.

        The batch's extras may hold importance weights `weight` [B] of the samples.
        """
        q = ops.select(self.q.apply(params, batch.obs), batch.action)  # [B]
        next_q = self.q.apply(target_params, batch.next_obs)  # [B, A]
        chooser = self.q.apply(params, batch.next_obs) if self.double else next_q
        next_value = ops.select(next_q, greedy(chooser, ops.legal_actions(batch.next_obs)))
        target = batch.reward + ops.weighted(self.gamma * batch.discount, next_value)
        error = q - jax.lax.stop_gradient(target)
        weight = batch.extras.get("weight", 1.0)
        loss = (ops.huber(error, self.huber_delta) * weight).mean()
        return loss, {"loss": loss, "q": q.mean(), "td_error": jnp.abs(error)}
