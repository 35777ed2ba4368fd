"""REINFORCE: policy gradient from complete episodes.

Williams 1992, doi:10.1007/BF00992696. Shapes: T time, B environments.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.optimizers import Optimizer
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, Step, descend, static
from parl.models import modes


class PGState(struct.PyTreeNode):
    """Everything that is learned."""

    actor: Net


class PG(Algorithm):
    """One gradient step on the episodes that end within a rollout [T, B, ...].

    There is no critic, so an episode cut by the end of the rollout is ignored, and one that ends at
    a time limit is treated as complete. An episode that began in an earlier rollout counts from the
    start of this one. Returns are normalised over the rollout, which acts as the baseline.
    """

    actor: Model = static(default=None)  # obs -> distribution
    optimizer: Optimizer = static(default=optax.adam)
    learning_rate: float = 1e-3
    gamma: float = 0.99
    entropy_cost: float = 0.0

    def init(self, key: Array, spec: EnvSpec) -> PGState:
        params = modes.init(self.actor, key, spec.obs)
        return PGState(Net(params, self.optimizer(self.learning_rate).init(params)))

    def policy(self, state: PGState) -> Params:
        return state.actor.params

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        pi = self.actor.apply(policy, obs)
        return (pi.sample(key) if explore else pi.mode()), memory, {}

    def update(self, state: PGState, batch: Rollout, key: Array) -> tuple[PGState, Metrics]:
        optimizer = self.optimizer(self.learning_rate)
        actor, metrics = descend(optimizer, self.loss, state.actor, batch.steps)
        return state.replace(actor=actor), metrics

    def loss(self, params: Params, steps: Step) -> tuple[Array, Metrics]:
        """Eq. 11, in modern notation: minus the mean of weight * log pi(a)."""
        pi = self.actor.apply(params, steps.obs)
        weight, whole = self.weights(steps)
        policy_loss = -jnp.mean(weight * pi.log_prob(steps.action))
        entropy = pi.entropy().mean()
        loss = policy_loss - self.entropy_cost * entropy
        return loss, {"policy_loss": policy_loss, "entropy": entropy, "used": whole.mean()}

    def weights(self, steps: Step) -> tuple[Array, Array]:
        """(normalised returns, mask of steps in finished episodes) [T, B]; 0 in unfinished ones."""
        whole = jax.lax.cummax(jnp.asarray(steps.last, jnp.float32), reverse=True)
        nothing = jnp.zeros_like(steps.reward)
        discount = self.gamma * steps.discount
        returns = ops.lambda_returns(steps.reward, discount, steps.last, nothing, lambda_=1.0)
        count = jnp.maximum(whole.sum(), 1.0)
        centred = returns - (whole * returns).sum() / count
        std = jnp.sqrt((whole * centred**2).sum() / count)
        return whole * centred / (std + 1e-8), whole
