"""Base of the value-based algorithms: epsilon-greedy acting and the optimiser.

With several agents the values are [..., N, A] and each agent explores independently. The network
may be recurrent; see parl/models/recurrent.py. Shapes: B batch, O observation, A actions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.optimizers import Optimizer, annealed, clipped
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.types import Array, Params, Rollout, static
from parl.models import recurrent


class QPolicy(struct.PyTreeNode):
    """Parameters for acting, with the exploration rate."""

    params: Params
    epsilon: Array  # []


class QLearning(Algorithm):
    """Base of the algorithms that learn values of discrete actions.

    Their states have `net` and `env_steps` [] int32.
    """

    q: Model = static(default=None)  # obs [B, O] -> [B, A], or a ValueDistribution of these
    optimizer: Optimizer = static(default=optax.adam)
    anneal_updates: int = static(default=0)  # updates over which the rate falls to 0; 0: constant
    learning_rate: float = 1e-4
    gamma: float = 0.99
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_steps: int = 10_000  # environment steps from start to end
    max_grad_norm: float = 10.0

    @property
    def steps_per_update(self) -> int:
        """Optimiser steps per update."""
        return 1

    @property
    def transformation(self) -> optax.GradientTransformation:
        """The optimiser at the rate, annealed if asked for, after clipping by the global norm."""
        rate = annealed(self.learning_rate, self.anneal_updates * self.steps_per_update)
        return clipped(self.optimizer(rate), self.max_grad_norm)

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        return recurrent.memory_of(self.q, batch_shape)

    def policy(self, state: Any) -> QPolicy:
        done = jnp.clip(state.env_steps / self.epsilon_steps, 0.0, 1.0)
        epsilon = self.epsilon_start + done * (self.epsilon_end - self.epsilon_start)
        return QPolicy(self.acting(state.net.params), epsilon)

    def acting(self, params: Params) -> Params:
        """The part of the learned parameters that belongs to `q`."""
        return params

    def act(
        self, policy: QPolicy, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        k_net = jax.random.fold_in(key, 0) if explore else None  # the greedy network has no noise
        values, memory = recurrent.step(self.q, policy.params, obs, memory, k_net)
        q, legal = ops.mean_of(values), ops.legal_actions(obs)
        if explore:
            return ops.epsilon_greedy(key, q, policy.epsilon, legal), memory, {}
        return greedy(q, legal), memory, {}

    def observe(self, state: Any, rollout: Rollout) -> Any:
        return state.replace(env_steps=state.env_steps + rollout.steps.first.size)


def greedy(q: Array, legal: Array | None) -> Array:
    """The best legal actions [...] int32 by values [..., A]."""
    return jnp.argmax(q if legal is None else ops.mask_illegal(q, legal), -1).astype(jnp.int32)
