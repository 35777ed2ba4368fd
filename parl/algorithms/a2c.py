"""Advantage actor-critic.

Mnih et al. 2016, arXiv:1602.01783, in its synchronous form. Shapes: T time, B environments.
"""

import optax

from parl import ops
from parl.algorithms.shared.actor_critic import ActorCritic, ActorCriticState
from parl.algorithms.shared.optimizers import Optimizer, clipped
from parl.core.bound import bound
from parl.core.types import Array, Metrics, Params, Rollout, descend, static

# Without bias correction its first steps are ten times as large as later ones, which leaves most
# units of a CNN dead.
RMSPROP = bound(optax.rmsprop, decay=0.99, bias_correction=True)


class A2C(ActorCritic):
    """One gradient step on each rollout [T, B, ...]; lambda = 1 gives n-step advantages."""

    optimizer: Optimizer = static(default=RMSPROP)
    learning_rate: float = 7e-4
    lambda_: float = 1.0
    rms_epsilon: float = 1e-5  # added inside the square root

    @property
    def transformation(self) -> optax.GradientTransformation:
        """RMSProp, as in the paper, after clipping by the global norm."""
        return clipped(self.optimizer(self.rate, eps=self.rms_epsilon), self.max_grad_norm)

    def update(
        self, state: ActorCriticState, batch: Rollout, key: Array
    ) -> tuple[ActorCriticState, Metrics]:
        net, metrics = descend(self.transformation, self.loss, state.net, batch)
        return state.replace(net=net), metrics

    def loss(self, params: Params, batch: Rollout) -> tuple[Array, Metrics]:
        """Section 4.3: policy gradient and entropy, and half the squared value error."""
        pi, value, next_value = self.values_of(params, batch)
        log_prob = pi.log_prob(batch.steps.action)
        log_rhos = log_prob - batch.steps.extras["log_prob"]
        deltas = self.transitions(batch.steps, value, next_value)
        advantage, target = self.targets(log_rhos, deltas)
        active = deltas.active
        policy_loss = -ops.mean(log_prob * advantage, active)
        value_loss = 0.5 * ops.mean((value - target) ** 2, active)
        return self.total(policy_loss, value_loss, ops.mean(pi.entropy(), active))
