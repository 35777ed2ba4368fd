"""Policies learned by regression on recorded actions, each weighted by its advantage.

Peng et al. 2019, arXiv:1910.00177. Shapes: B batch, O observation, A action, C critics.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from parl.algorithms.shared.critics import learn
from parl.algorithms.shared.optimizers import Optimizer, annealed_by_cosine
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.types import Array, Metrics, Net, Params, Step, static
from parl.models import modes


class WeightedRegression(Algorithm):
    """Base of the algorithms whose policy is regressed on the data; states have an `actor`."""

    actor: Model = static(default=None)  # obs [B, O] -> a Distribution over [B, A]
    critic: Model = static(default=None)  # obs, action -> [C, B]
    optimizer: Optimizer = static(default=optax.adam)
    anneal_updates: int = static(default=0)  # over which the actor's rate falls to 0; 0: constant
    learning_rate: float = 3e-4  # of the actor
    critic_learning_rate: float = 3e-4
    gamma: float = 0.99
    tau: float = 0.005
    inverse_temperature: float = 3.0  # of the weights
    largest_weight: float = 100.0

    @property
    def tolerates_lag(self) -> bool:
        return True

    @property
    def steps_per_update(self) -> int:
        """Steps of the actor's optimiser per update."""
        return 1

    @property
    def transformation(self) -> optax.GradientTransformation:
        """The actor's optimiser with its schedule."""
        return self.optimizer(annealed_by_cosine(self.learning_rate, self.anneal_updates))

    def policy(self, state: Any) -> Params:
        return state.actor.params

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        pi = self.actor.apply(policy, obs)
        action = pi.sample(key) if explore else pi.mode()
        return jnp.clip(action, -1.0, 1.0), memory, {}

    def update_policy(
        self, actor: Net, batch: Step, advantage: Array, key: Array
    ) -> tuple[Net, Metrics]:
        """The actor after one step on actions of this advantage [B]."""
        return learn(self.transformation, self.actor_loss, actor, batch, advantage, key)

    def actor_loss(
        self, params: Params, batch: Step, advantage: Array, key: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """-exp(advantage / temperature) log pi(a | s), with a bound on the weight."""
        pi, statistics = modes.train(self.actor, params, batch.obs, key=key)
        weight = jnp.minimum(jnp.exp(self.inverse_temperature * advantage), self.largest_weight)
        loss = -(jax.lax.stop_gradient(weight) * pi.log_prob(batch.action)).mean()
        return loss, ({"actor_loss": loss, "advantage": advantage.mean()}, statistics)
