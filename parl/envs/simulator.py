"""The rules of a game, of the environment that plays it."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from parl.core.types import Array


@dataclass(frozen=True)
class GameRules:
    """The Simulator of a pure JAX game without chance that rebuilds its state: `state_of(obs)`.

    The game must move by the action of the agent to move alone.
    """

    game: Any

    def state_of(self, obs: Any) -> Any:
        return self.game.state_of(obs)

    def step(self, state: Any, action: Array) -> tuple[Any, Any, Array, Array]:
        joint = jnp.broadcast_to(action, self.game.spec.agent_shape)
        new = self.game.step(state, joint, jax.random.key(0))  # nothing is drawn
        state, obs, reward, terminated, truncated = new
        return state, obs, reward, terminated | truncated


def packed(state: Any) -> Array:
    """The leaves of a state as one vector of bytes."""
    return jnp.concatenate([bytes_of(x).reshape(-1) for x in jax.tree.leaves(state)])


def packed_size(like: Any) -> int:
    """The number of bytes of `packed` for a state of these shapes."""
    return jax.eval_shape(packed, like).shape[0]


def unpacked(data: Array, like: Any) -> Any:
    """The state of these shapes whose bytes `packed` gave."""
    leaves, structure = jax.tree.flatten(like)
    start, found = 0, []
    for leaf in leaves:
        form = jax.eval_shape(bytes_of, leaf).shape
        end = start + math.prod(form)
        found.append(of_bytes(jnp.asarray(data)[start:end].reshape(form), leaf.dtype))
        start = end
    return jax.tree.unflatten(structure, found)


def bytes_of(x: Array) -> Array:
    """An array's bytes, uint8 [..., bytes of an entry]; for entries of one byte [...]."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if x.dtype.kind == "b":
        return x.astype(jnp.uint8)
    return jax.lax.bitcast_convert_type(x, jnp.uint8)


def of_bytes(data: Array, dtype: Any) -> Array:
    """The inverse of `bytes_of`."""
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jax.lax.bitcast_convert_type(data, jnp.uint32))
    if jnp.dtype(dtype).kind == "b":
        return data.astype(bool)
    return jax.lax.bitcast_convert_type(data, dtype)
