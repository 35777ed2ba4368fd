"""The rules of a game, of the environment that plays it."""

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
