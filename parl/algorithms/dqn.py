"""Deep Q-network with double estimation, for numbers and for distributions of returns.

Mnih et al. 2015, doi:10.1038/nature14236; van Hasselt et al. 2016, arXiv:1509.06461. The rest is a
choice of network: dueling (arXiv:1511.06581), noisy layers (arXiv:1706.10295), and what it predicts
of each action - a number, a histogram (C51, arXiv:1707.06887), quantiles (QR-DQN, arXiv:1710.10044)
or quantiles at drawn levels (IQN, arXiv:1806.06923). Shapes: B batch, O observation, A actions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.q_learning import QLearning, QPolicy, greedy
from parl.core.algorithm import Algorithm
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Step, descend, static
from parl.models import modes
from parl.ops.noise import ladder


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
    epsilon_spread: float = 0.0  # an environment explores with epsilon^(1 + spread place)

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

    def exploring(self, policy: QPolicy, place: Array) -> tuple[Algorithm, Any]:
        """Every environment has an epsilon of its own: Horgan et al. 2018, section 4.1."""
        epsilon = policy.epsilon * ladder(policy.epsilon, self.epsilon_spread, place)
        return self, policy.replace(epsilon=epsilon)

    def update(self, state: DQNState, batch: Step, key: Array) -> tuple[DQNState, Metrics]:
        net, metrics = descend(self.transformation, self.loss, state.net, state.target, batch, key)
        updates = state.updates + 1
        step = jnp.where(updates % self.target_period == 0, self.tau, 0.0)  # cheaper than a cond
        target = optax.incremental_update(net.params, state.target, step)
        return state.replace(net=net, target=target, updates=updates), metrics

    def loss(
        self, params: Params, target_params: Params, batch: Any, key: Array
    ) -> tuple[Array, Metrics]:
        """Distance from the TD target; of numbers it is the Huber loss of the TD error.

        The batch's extras may hold importance weights `weight` [B] of the samples.
        """
        k_now, k_next = jax.random.split(key)
        values = self.form(ops.pick(self.outputs(params, batch.obs, k_now), batch.action))  # [B]
        target = jax.lax.stop_gradient(self.target(params, target_params, batch, k_next))
        weight = batch.extras.get("weight", 1.0)
        loss = (values.loss(target) * weight).mean()
        return loss, {"loss": loss, "q": values.mean.mean(), "td_error": values.error(target)}

    def outputs(self, params: Params, obs: Any, key: Array) -> Any:
        """Values [B, A] of all actions; the key draws the network's noise."""
        return modes.perturb(self.q, params, obs, key=key)

    def form(self, values: Any) -> ops.ValueDistribution:
        """Values with their loss; plain numbers get the Huber loss."""
        if isinstance(values, ops.ValueDistribution):
            return values
        return ops.Huber(values, self.huber_delta)

    def target(self, params: Params, target_params: Params, batch: Any, key: Array) -> Array:
        """Regression targets [B, ...]; the double one is van Hasselt et al., eq. 4."""
        k_value, k_choice = jax.random.split(key)
        values = self.outputs(target_params, batch.next_obs, k_value)  # [B, A]
        chooser = self.outputs(params, batch.next_obs, k_choice) if self.double else values
        best = greedy(ops.mean_of(chooser), ops.legal_actions(batch.next_obs))
        next_value = ops.as_values(ops.pick(values, best))
        return next_value.backup(batch.reward, self.gamma * batch.discount)
