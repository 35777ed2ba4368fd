"""Matches: who plays which agents. Sides are teams whose policies are not of one player.

Shapes: B environments, N agents.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl import ops
from parl.core.algorithm import Algorithm
from parl.core.spec import EnvSpec, Space
from parl.core.types import Array, static


def sides_of(spec: EnvSpec) -> tuple[int, ...]:
    """The side of each agent, 0 .. S - 1: its group where there are several, else its own."""
    if len(set(spec.groups)) > 1:
        return spec.groups
    return tuple(range(spec.num_agents or 1))


def choose(mine: Array | np.ndarray, action: Array, other: Array) -> Array:
    """`action` [B, N, ...] of the agents where `mine` [B or 1, N], else that of `other`."""
    return jnp.where(ops.expand_like(mine, action), action, other)


class Uniform(Algorithm):
    """The player without a policy: any legal action is as likely as any other."""

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


class Match(Algorithm):
    """Has one player act for each side; it does not learn. Policies and memories are tuples."""

    players: tuple[Algorithm, ...] = ()
    sides: tuple[int, ...] = static(default=())  # of each agent: its player's index
    samples: tuple[bool, ...] = static(default=())  # whether a player explores in any case

    def policy(self, state: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(p.policy(part) for p, part in zip(self.players, state, strict=True))

    def memory(self, batch_shape: tuple[int, ...]) -> tuple[Any, ...]:
        return tuple(player.memory(batch_shape) for player in self.players)

    def act(
        self, policy: tuple[Any, ...], obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        keys = jax.random.split(key, len(self.players))
        action, memories = None, []
        for side, (player, samples) in enumerate(zip(self.players, self.samples, strict=True)):
            own, kept, _ = player.act(
                policy[side], obs, memory[side], keys[side], explore or samples
            )
            mine = (np.array(self.sides) == side)[None]
            action = own if action is None else choose(mine, own, action)
            memories.append(kept)
        assert action is not None
        return action, tuple(memories), {}
