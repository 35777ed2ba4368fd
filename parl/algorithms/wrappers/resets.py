"""Periodic resets of the learned state; replay is kept.

Nikishin et al. 2022, arXiv:2205.07802. Early data have less influence on a network that starts
afresh, which allows many updates per step.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from parl.algorithms.shared.critics import every_n
from parl.algorithms.wrappers.base import AlgorithmWrapper
from parl.core.algorithm import Algorithm
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Rollout, Strategy, static


class ResettingState(struct.PyTreeNode):
    """The wrapped algorithm's state and the number of updates."""

    inner: Any
    updates: Array  # [] int32


class Resetting(AlgorithmWrapper):
    """Re-initialises the networks and optimisers of `inner` after every `period` updates.

    Normalisation statistics are kept if `Normalized` wraps this algorithm.
    """

    spec: EnvSpec = static(default=None)
    period: int = static(default=200_000)

    def init(self, key: Array, spec: EnvSpec) -> ResettingState:
        return ResettingState(self.inner.init(key, spec), jnp.zeros((), jnp.int32))

    def policy(self, state: ResettingState) -> Any:
        return self.inner.policy(state.inner)

    def act(
        self, policy: Any, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Any, Any, dict[str, Any]]:
        return self.inner.act(policy, obs, memory, key, explore)

    def exploring(self, policy: Any, place: Array) -> tuple[Algorithm, Any]:
        inner, policy = self.inner.exploring(policy, place)
        return self.replace(inner=inner), policy

    def strategy(self, policy: Any, obs: Any, memory: Any) -> tuple[Strategy, Any]:
        return self.inner.strategy(policy, obs, memory)

    def observe(self, state: ResettingState, rollout: Rollout) -> ResettingState:
        return state.replace(inner=self.inner.observe(state.inner, rollout))

    def update(self, state: ResettingState, batch: Any, key: Array) -> tuple[Any, Metrics]:
        k_update, k_reset = jax.random.split(key)
        inner, metrics = self.inner.update(state.inner, batch, k_update)
        fresh = lambda: (self.inner.init(k_reset, self.spec), {})
        updates = state.updates + 1
        inner, _ = every_n(self.period, updates, fresh, inner)
        return ResettingState(inner, updates), metrics
