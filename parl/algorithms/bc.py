"""Behaviour cloning: the policy under which the recorded actions are likeliest.

Pomerleau 1991, doi:10.1162/neco.1991.3.1.88. Shapes: B batch, O observation, A action.
"""

from typing import Any

import jax.numpy as jnp
import optax
from flax import struct

from parl.algorithms.shared.critics import init_net, learn
from parl.algorithms.shared.optimizers import Optimizer
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Step, static
from parl.models import modes
from parl.ops.distributions import Distribution


class BCState(struct.PyTreeNode):
    """Everything BC learns."""

    actor: Net


class BC(Algorithm):
    """Regression on the actions of a data set; batches are single steps [B, ...]."""

    actor: Model = static(default=None)  # obs [B, O] -> action [B, A], or a Distribution of these
    optimizer: Optimizer = static(default=optax.adam)
    learning_rate: float = 3e-4

    @property
    def tolerates_lag(self) -> bool:
        return True

    def init(self, key: Array, spec: EnvSpec) -> BCState:
        params = modes.init(self.actor, key, spec.obs, renewed=True)
        return BCState(init_net(self.optimizer(self.learning_rate), params))

    def policy(self, state: BCState) -> Params:
        return state.actor.params

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        output = self.actor.apply(policy, obs)
        if isinstance(output, Distribution):
            output = output.sample(key) if explore else output.mode()
        return output, memory, {}

    def update(self, state: BCState, batch: Step, key: Array) -> tuple[BCState, Metrics]:
        optimizer = self.optimizer(self.learning_rate)
        actor, metrics = learn(optimizer, self.loss, state.actor, batch, key)
        return BCState(actor), metrics

    def loss(self, params: Params, batch: Step, key: Array) -> tuple[Array, tuple[Metrics, Params]]:
        """-log pi(a | s), or the squared distance of a policy without deviation."""
        output, statistics = modes.train(self.actor, params, batch.obs, key=key)
        if isinstance(output, Distribution):
            loss = -output.log_prob(batch.action).mean()
        else:
            loss = jnp.square(output - batch.action).mean()
        return loss, ({"loss": loss}, statistics)
