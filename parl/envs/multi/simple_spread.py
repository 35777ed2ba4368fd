"""simple_spread: agents cover landmarks and avoid collisions (mpe2's v3)."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, INK
from parl.envs.multi import particles
from parl.envs.multi.particles import ParticleState
from parl.envs.team import team_spec

RADIUS = 0.15
LOCAL_RATIO = 0.5  # weight of an agent's own collisions relative to the shared reward
MOST = 1_000  # agents


@dataclass(frozen=True)
class SimpleSpread:
    """As many landmarks as agents, a shared reward for coverage and a penalty for collisions.

    The reward of an agent is half of minus the sum over landmarks of the distance to the nearest
    agent, and half of minus its collisions. Discrete moves, or `continuous` ones.
    """

    num_agents: int = 3
    continuous: bool = False
    max_steps: int = 25

    def __post_init__(self) -> None:
        if not 1 <= self.num_agents <= MOST:
            raise ValueError(f"num_agents must be from 1 to {MOST}, not {self.num_agents}")

    @property
    def id(self) -> str:
        """The id of this variant."""
        kind = "_continuous" if self.continuous else ""
        count = "" if self.num_agents == 3 else f"-{self.num_agents}"
        return f"jax:simple_spread{kind}{count}"

    @property
    def views(self) -> tuple[int, ...]:
        """Sizes of the agents' views."""
        return (6 * self.num_agents,) * self.num_agents

    @property
    def actions(self) -> tuple[Discrete | Box, ...]:
        """The agents' own action spaces."""
        return (particles.move_space(self.continuous),) * self.num_agents

    @property
    def spec(self) -> EnvSpec:
        agents = [f"agent_{i}" for i in range(self.num_agents)]
        size = sum(self.views)
        return team_spec(self.id, agents, self.views, self.actions, size, max_steps=self.max_steps)

    def reset(self, key: Array) -> tuple[ParticleState, Any]:
        state = particles.scatter(key, self.num_agents, self.num_agents)
        return state, self.observe(state)

    def step(
        self, state: ParticleState, action: Array, key: Array
    ) -> tuple[ParticleState, Any, Array, Array, Array]:
        reach = np.full((self.num_agents, self.num_agents), 2 * RADIUS, np.float32)
        force = particles.SENSITIVITY * particles.push(action, self.continuous)
        force += particles.contact_force(state.position, state.position, reach)
        state = particles.move(state, force)
        time_over = state.time >= self.max_steps
        return state, self.observe(state), self.reward(state), jnp.bool_(False), time_over

    def reward(self, state: ParticleState) -> Array:
        """Rewards [N]."""
        distance = particles.lengths(particles.offsets(state.landmarks, state.position))
        others = particles.of_others(particles.offsets(state.position, state.position))
        hits = particles.touching(others, np.array(2 * RADIUS, np.float32)).sum(1)
        return -(1 - LOCAL_RATIO) * distance.min(1).sum() - LOCAL_RATIO * hits

    def observe(self, state: ParticleState) -> dict[str, Array]:
        """Views: own velocity and position, offsets of landmarks and of others, 0s for silence."""
        count, position = self.num_agents, state.position
        others = particles.of_others(particles.offsets(position, position))
        silence = jnp.zeros((count, 2 * (count - 1)))
        landmarks = particles.flat(particles.offsets(position, state.landmarks))
        parts = [state.velocity, position, landmarks, particles.flat(others), silence]
        view = jnp.concatenate(parts, 1)
        return particles.observation(view, view.reshape(-1), self.actions)

    def draw(self, state: ParticleState) -> np.ndarray:
        """Agents, and the landmarks that they are to cover."""
        radius = np.array([RADIUS] * self.num_agents + [0.05] * self.num_agents)
        return particles.draw(state, radius, COLORS[:1] * self.num_agents, [INK] * self.num_agents)
