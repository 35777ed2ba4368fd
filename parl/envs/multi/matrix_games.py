"""Cooperative games of one or two steps in which two agents must find the best joint action.

Each agent gets half of the payoff, so that the sum over agents is the payoff of the paper.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.spec import Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import Canvas
from parl.envs.team import team_spec

CLIMBING = ((11.0, -30.0, 0.0), (-30.0, 7.0, 6.0), (0.0, 0.0, 5.0))
TWO_STEP = ((0.0, 1.0), (1.0, 8.0))
AGENTS = ("agent_0", "agent_1")


def penalty(k: float) -> tuple[tuple[float, ...], ...]:
    """The payoffs of the penalty game."""
    return (10.0, 0.0, k), (0.0, 2.0, 0.0), (k, 0.0, 10.0)


class GameState(struct.PyTreeNode):
    """The state of a game."""

    place: Array  # [] int32, one of its situations


@dataclass(frozen=True)
class MatrixGame:
    """One simultaneous move each, with the payoff `payoff[action 0][action 1]`.

    The climbing and the penalty game are those of Claus and Boutilier (1998), The dynamics of
    reinforcement learning in cooperative multiagent systems: miscoordination costs, or the best
    actions are risky.
    """

    id: str
    payoff: tuple[tuple[float, ...], ...]

    @property
    def spec(self) -> EnvSpec:
        actions = (Discrete(len(self.payoff)), Discrete(len(self.payoff[0])))
        return team_spec(self.id, AGENTS, (1, 1), actions, 1, max_steps=1)

    def reset(self, key: Array) -> tuple[GameState, Any]:
        return GameState(jnp.int32(0)), self.observe()

    def step(
        self, state: GameState, action: Array, key: Array
    ) -> tuple[GameState, Any, Array, Array, Array]:
        paid = jnp.array(self.payoff)[action[0], action[1]]
        reward, over = jnp.full(2, paid / 2), jnp.bool_(True)
        return GameState(jnp.int32(1)), self.observe(), reward, over, jnp.bool_(False)

    def observe(self) -> dict[str, Array]:
        """A constant observation of ones."""
        return observation(jnp.ones(1), len(self.payoff))

    def draw(self, state: GameState) -> np.ndarray:
        """Which situation the game is in, in words."""
        return picture(self.spec.id, state)


@dataclass(frozen=True)
class TwoStep:
    """The first agent's first move chooses one of two matrix games, which both then play.

    From the QMIX paper (Rashid et al., 2018, arXiv:1803.11485, section 5): one game always gives 7,
    the other 8 for the joint action (1, 1) and less otherwise. Monotonic mixing can represent these
    values, a sum cannot.
    """

    @property
    def spec(self) -> EnvSpec:
        return team_spec("jax:two_step", AGENTS, (3, 3), (Discrete(2),) * 2, 3, max_steps=2)

    def reset(self, key: Array) -> tuple[GameState, Any]:
        return self.at(jnp.int32(0))

    def step(
        self, state: GameState, action: Array, key: Array
    ) -> tuple[GameState, Any, Array, Array, Array]:
        paid = jnp.where(state.place == 1, 7.0, jnp.array(TWO_STEP)[action[0], action[1]])
        over = state.place > 0
        reward = jnp.full(2, jnp.where(over, paid / 2, 0.0))
        return *self.at(jnp.where(over, state.place, 1 + action[0])), reward, over, jnp.bool_(False)

    def at(self, place: Array) -> tuple[GameState, dict[str, Array]]:
        """(state, observation) in a situation: 0 the start, 1 and 2 the two games."""
        return GameState(place), observation((np.arange(3) == place).astype(jnp.float32), 2)

    def draw(self, state: GameState) -> np.ndarray:
        """Which situation the game is in, in words."""
        return picture(self.spec.id, state)


def observation(view: Array, actions: int) -> dict[str, Array]:
    """The observation of both agents: view [O], which is also the state."""
    return {
        "view": jnp.stack([view, view]),
        "alive": jnp.ones(2, bool),
        "legal": jnp.ones((2, actions), bool),
        "state": view,
    }


def picture(id: str, state: GameState) -> np.ndarray:
    """The name of a game and the number of its situation."""
    canvas = Canvas(0, 1)
    canvas.text((0.5, 0.6), id.removeprefix("jax:"))
    canvas.text((0.5, 0.4), f"situation {int(state.place)}")
    return canvas.picture()
