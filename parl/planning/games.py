"""Search with the rules of a game of two players. Shapes: B environments, N agents, A actions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from parl import ops
from parl.core.simulator import Simulator
from parl.core.types import Array
from parl.planning.gumbel import Edge, Model, Node

Network = Callable[[Any], tuple[Array, Array]]  # of a mover's obs [B, ...]: (logits, values)


def mover_of(obs: Any) -> Array:
    """The agent to move [...] int32; 0 where none is."""
    return jnp.argmax(obs["turn"], -1).astype(jnp.int32)


def of_agent(x: Array, agent: Array) -> Array:
    """The entries [..., *rest] of x [..., N, *rest] of one agent [...] each."""
    index = ops.expand_like(agent, x)
    return jnp.take_along_axis(x, index, jnp.ndim(agent)).squeeze(jnp.ndim(agent))


def seen_by_mover(obs: Any) -> dict[str, Array]:
    """The mover's own `view` [..., O] and `legal` [..., A]."""
    mover = mover_of(obs)
    return {name: of_agent(jnp.asarray(obs[name]), mover) for name in ("view", "legal")}


def joint_action(obs: Any, action: Array) -> Array:
    """Actions [..., N] of all agents, of which the mover takes `action` [...] and others 0."""
    return jnp.where(obs["turn"], action[..., None], 0)


def root_of(simulator: Simulator, network: Network, obs: Any) -> Node:
    """The node of observations [B, ...] in which someone is to move."""
    state = jax.vmap(simulator.state_of)(obs)
    return Node(*network(seen_by_mover(obs)), (state, mover_of(obs)))


def game_model(simulator: Simulator, network: Network, gamma: float | Array = 1.0) -> Model:
    """Plays ahead by the rules; values are those of the player to move, so they change sign."""

    def model(state: Any, action: Array, key: Array) -> tuple[Edge, Node]:
        position, mover = state
        position, obs, reward, over = jax.vmap(simulator.step)(position, action)
        following = mover_of(obs)
        logits, value = network(seen_by_mover(obs))
        sign = jnp.where(following == mover, 1.0, -1.0)
        edge = Edge(of_agent(reward, mover), jnp.where(over, 0.0, gamma * sign))
        return edge, Node(logits, jnp.where(over, 0.0, value), (position, following))

    return model
