"""Matches between two policies. A side is the set of agents that one player controls.

Shapes: B environments, N agents.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parl import ops
from parl.core.algorithm import Algorithm
from parl.core.spec import EnvSpec, Space
from parl.core.types import Array, Strategy, static


def sides_of(spec: EnvSpec) -> tuple[int, ...]:
    """The side of each agent, 0 .. S - 1: its group if there are several, else its own index."""
    if len(set(spec.groups)) > 1:
        return spec.groups
    return tuple(range(spec.num_agents or 1))


def choose(mine: Array | np.ndarray, action: Array, other: Array) -> Array:
    """`action` [B, N, ...] where `mine` [B or 1, N] is true, else `other`."""
    return jnp.where(ops.expand_like(jnp.asarray(mine), action), action, other)


class Uniform(Algorithm):
    """A player that draws uniformly among the legal actions."""

    space: Space = static(default=None)  # of one agent's actions
    num_agents: int = static(default=1)

    def policy(self, state: Any) -> Any:
        return ()

    def act(
        self, policy: Any, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        shape = (*obs["alive"].shape[:-1], self.num_agents)
        action = ops.uniform_action(key, self.space, shape, ops.legal_actions(obs))
        return action, memory, {}

    def strategy(self, policy: Any, obs: Any, memory: Any) -> tuple[Strategy, Any]:
        legal = obs["legal"]
        return Strategy(legal / legal.sum(-1, keepdims=True)), memory


class Scripted(Algorithm):
    """The player that is a pure function of (obs [B, ...] of all agents, key): actions [B, N]."""

    function: Callable[[Any, Array], Array] = static(default=None)

    def policy(self, state: Any) -> Any:
        return ()

    def act(
        self, policy: Any, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        return self.function(obs, key), memory, {}


class MatchPolicy(NamedTuple):
    """The two policies, and the side of the first; the side is data, so one program serves all."""

    own: Any  # the policy of `own`
    other: Any  # the policy of `other`
    side: Any  # [] int32, the side that `own` plays


class Match(Algorithm):
    """`own` acts for one side and `other` for all others; a match does not learn."""

    own: Algorithm
    other: Algorithm
    sides: tuple[int, ...] = static(default=())  # of each agent
    samples: tuple[bool, bool] = static(default=(False, False))  # which of the two always samples

    def memory(self, batch_shape: tuple[int, ...]) -> tuple[Any, Any]:
        return self.own.memory(batch_shape), self.other.memory(batch_shape)

    def act(
        self, policy: MatchPolicy, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        k_own, k_other = jax.random.split(key)
        explores = [explore or samples for samples in self.samples]
        own, kept, _ = self.own.act(policy.own, obs, memory[0], k_own, explores[0])
        other, remembered, _ = self.other.act(policy.other, obs, memory[1], k_other, explores[1])
        mine = (np.array(self.sides) == policy.side)[None]
        return choose(mine, own, other), (kept, remembered), {}
