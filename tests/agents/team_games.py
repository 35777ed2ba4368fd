"""A small game whose agents come late, die and, if asked to, take turns."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array

FAKE = 7.0  # what the view of an agent holds that is not there


class ScatterState(struct.PyTreeNode):
    """Where the agents are."""

    x: Array  # [3]
    alive: Array  # [3] bool
    time: Array  # [] int32


@dataclass(frozen=True)
class Scatter:
    """Three agents push themselves about on a line and are paid for being near 0.

    Agent 1 dies beyond 1.5, agent 2 comes in the third step; the game is over where agent 0 is
    beyond 2. With `turns` one agent moves at a time, others' actions change nothing.
    """

    continuous: bool = False
    turns: bool = False
    max_steps: int = 7

    @property
    def spec(self) -> EnvSpec:
        views: dict[str, Any] = {"view": Box((3, 2)), "alive": Box((3,), "bool")}
        views["state"] = Box((4,))
        if not self.continuous:
            views["legal"] = Box((3, 3), "bool")
        if self.turns:
            views["turn"] = Box((3,), "bool")
        actions = Box((2,), low=-1.0, high=1.0) if self.continuous else Discrete(3)
        names, groups = ("a", "b", "c"), (0, 0, 1)
        return EnvSpec("jax:scatter", views, actions, self.max_steps, 3, names, groups)

    def reset(self, key: Array) -> tuple[ScatterState, Any]:
        x = jax.random.normal(key, (3,))
        state = ScatterState(x, jnp.array([True, True, False]), jnp.int32(0))
        return state, self.observe(state)

    def step(self, state: ScatterState, action: Array, key: Array) -> Any:
        push = action[..., 0] if self.continuous else action - 1.0
        moves = state.alive & self.turn(state)
        x = state.x + jnp.where(moves, push, 0.0) + 0.3 * jax.random.normal(key, (3,))
        reward = jnp.where(state.alive, -jnp.abs(x), 0.0)
        time = state.time + 1
        dead = jnp.array([False, True, False]) & (jnp.abs(x) > 1.5)
        alive = (state.alive & ~dead) | (jnp.arange(3) == 2) & (time >= 2)
        state = ScatterState(x, alive, time)
        return state, self.observe(state), reward, jnp.abs(x[0]) > 2.0, time >= self.max_steps

    def turn(self, state: ScatterState) -> Array:
        """Who may move now, [3] bool."""
        return (state.time % 3 == jnp.arange(3)) | (not self.turns)

    def observe(self, state: ScatterState) -> dict[str, Array]:
        view = jnp.stack([state.x, jnp.full(3, state.time / 10)], -1)
        obs = {"view": jnp.where(state.alive[:, None], view, FAKE), "alive": state.alive}
        obs["state"] = jnp.append(jnp.where(state.alive, state.x, 0.0), state.time / 10)
        moves = state.alive & self.turn(state)
        if not self.continuous:
            legal = jnp.stack([jnp.ones(3, bool), state.x > -1.0, state.x < 1.0], -1)
            obs["legal"] = jnp.where(moves[:, None], legal, jnp.arange(3) == 0)
        if self.turns:
            obs["turn"] = self.turn(state)
        return obs
