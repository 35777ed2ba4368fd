"""simple_speaker_listener: one agent knows the goal, the other can walk to it (mpe2's v4)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, PALE
from parl.envs.multi import particles
from parl.envs.multi.particles import MOVES, ParticleState
from parl.envs.team import team_spec

GOALS = 3
COLOURS = np.full((GOALS, 3), 0.15, np.float32) + 0.5 * np.eye(GOALS, dtype=np.float32)

LANDMARK_COLORS = (COLORS[3], COLORS[2], COLORS[0])


class SpeakerListenerState(ParticleState):
    """Positions, the goal and the message; the speaker is agent 0."""

    goal: Array  # [] int32, the landmark to go to
    message: Array  # [3] the speaker's last message


@dataclass(frozen=True)
class SimpleSpeakerListener:
    """The speaker sees the goal's colour and says one of three words to the listener.

    Both get minus the squared distance between the listener and the goal.
    """

    continuous: bool = False
    max_steps: int = 25

    @property
    def views(self) -> tuple[int, ...]:
        """Sizes of the agents' views."""
        return 3, 11

    @property
    def actions(self) -> tuple[Discrete | Box, ...]:
        """The agents' own action spaces."""
        words = Box((GOALS,), low=-1.0, high=1.0) if self.continuous else Discrete(GOALS)
        return words, particles.move_space(self.continuous)

    @property
    def spec(self) -> EnvSpec:
        return team_spec(
            "jax:simple_speaker_listener" + "_continuous" * self.continuous,
            ["speaker_0", "listener_0"],
            self.views,
            self.actions,
            sum(self.views),
            max_steps=self.max_steps,
        )

    def reset(self, key: Array) -> tuple[SpeakerListenerState, Any]:
        k_place, k_goal = jax.random.split(key)
        goal = jax.random.randint(k_goal, (), 0, GOALS)
        start = particles.scatter(k_place, 2, GOALS)
        state = SpeakerListenerState(**vars(start), goal=goal, message=jnp.zeros(GOALS))
        return state, self.observe(state)

    def step(
        self, state: SpeakerListenerState, action: Array, key: Array
    ) -> tuple[SpeakerListenerState, Any, Array, Array, Array]:
        force = particles.SENSITIVITY * particles.push(action, self.continuous)
        still = np.array([[0], [1]], np.float32)  # the speaker does not move
        moved: Any = particles.move(state, jnp.asarray(still * force))
        state = moved.replace(message=self.said(action[0]))
        gap = state.position[1] - state.landmarks[state.goal]
        reward = jnp.full(2, -jnp.square(gap).sum())
        time_over = state.time >= self.max_steps
        return state, self.observe(state), reward, jnp.bool_(False), time_over

    def said(self, action: Array) -> Array:
        """The message [3] of the speaker's action."""
        if self.continuous:
            return (jnp.clip(action[:GOALS], -1, 1) + 1) / 2
        return (np.arange(GOALS) == action).astype(jnp.float32)

    def observe(self, state: SpeakerListenerState) -> dict[str, Array]:
        """The goal's colour; and own velocity, offsets of the landmarks and the message."""
        colour = jnp.asarray(COLOURS)[state.goal]
        landmarks = (state.landmarks - state.position[1]).reshape(-1)
        heard = jnp.concatenate([state.velocity[1], landmarks, state.message])
        view = jnp.stack([jnp.zeros(MOVES + 6).at[:3].set(colour), heard])
        return particles.observation(view, jnp.concatenate([colour, heard]), self.actions)

    def draw(self, state: SpeakerListenerState) -> np.ndarray:
        """The speaker in grey, the listener in the goal's colour, and the landmarks."""
        radius = np.array([0.075] * 2 + [0.04] * len(LANDMARK_COLORS))
        agents = [PALE, LANDMARK_COLORS[int(state.goal)]]
        return particles.draw(state, radius, agents, LANDMARK_COLORS)
