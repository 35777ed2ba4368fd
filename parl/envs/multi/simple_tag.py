"""simple_tag: slow predators chase a fast prey around obstacles (mpe2's v3)."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, PALE
from parl.envs.multi import particles
from parl.envs.multi.particles import ParticleState
from parl.envs.team import team_spec

PREDATORS, PREY, OBSTACLES = 3, 1, 2
AGENTS = PREDATORS + PREY
RADIUS = np.array([0.075] * PREDATORS + [0.05] * PREY + [0.2] * OBSTACLES, np.float32)
REACH = RADIUS[:AGENTS, None] + RADIUS  # [N, E] the distance of two that touch
ACCELERATION = np.array([3.0] * PREDATORS + [4.0] * PREY, np.float32)
MAX_SPEED = np.array([1.0] * PREDATORS + [1.3] * PREY, np.float32)
CATCH = 10.0


@dataclass(frozen=True)
class SimpleTag:
    """Every predator gets 10 for each predator that touches the prey, which loses the same amount.

    The prey is also penalised for leaving the square [-0.9, 0.9]^2.
    """

    continuous: bool = False
    max_steps: int = 25

    @property
    def views(self) -> tuple[int, ...]:
        """Sizes of the agents' views."""
        return (16,) * PREDATORS + (14,) * PREY

    @property
    def actions(self) -> tuple[Discrete | Box, ...]:
        """The agents' own action spaces."""
        return (particles.move_space(self.continuous),) * AGENTS

    @property
    def spec(self) -> EnvSpec:
        return team_spec(
            "jax:simple_tag" + "_continuous" * self.continuous,
            [f"adversary_{i}" for i in range(PREDATORS)] + [f"agent_{i}" for i in range(PREY)],
            self.views,
            self.actions,
            sum(self.views),
            max_steps=self.max_steps,
        )

    def reset(self, key: Array) -> tuple[ParticleState, Any]:
        state = particles.scatter(key, AGENTS, OBSTACLES, reach=0.9)
        return state, self.observe(state)

    def step(
        self, state: ParticleState, action: Array, key: Array
    ) -> tuple[ParticleState, Any, Array, Array, Array]:
        force = jnp.asarray(ACCELERATION)[:, None] * particles.push(action, self.continuous)
        entities = jnp.concatenate([state.position, state.landmarks])
        force += particles.contact_force(state.position, entities, REACH)
        state = particles.move(state, force, MAX_SPEED)
        time_over = state.time >= self.max_steps
        return state, self.observe(state), self.reward(state), jnp.bool_(False), time_over

    def reward(self, state: ParticleState) -> Array:
        """Rewards [N]."""
        predators, prey = state.position[:PREDATORS], state.position[PREDATORS:]
        reach = REACH[PREDATORS:, :PREDATORS]
        hits = particles.touching(particles.offsets(prey, predators), reach)  # [prey, predators]
        caught = CATCH * hits.sum()
        fled = -CATCH * hits.sum(1) - fine(jnp.abs(prey)).sum(1)
        return jnp.concatenate([jnp.full(PREDATORS, caught), fled])

    def observe(self, state: ParticleState) -> dict[str, Array]:
        """Own velocity and position, offsets of obstacles and of others, the prey's velocity."""
        position = state.position
        obstacles = particles.flat(particles.offsets(position, state.landmarks))
        others = particles.of_others(particles.offsets(position, position))
        prey = jnp.tile(state.velocity[PREDATORS:].reshape(1, -1), (PREDATORS, 1))
        prey = jnp.pad(prey, ((0, PREY), (0, 0)))  # the prey knows its own
        parts = [state.velocity, position, obstacles, particles.flat(others), prey]
        view = jnp.concatenate(parts, 1)
        state_of_all = jnp.concatenate([view[:PREDATORS].reshape(-1), view[PREDATORS, :14]])
        return particles.observation(view, state_of_all, self.actions)

    def draw(self, state: ParticleState) -> np.ndarray:
        """Predators, the prey and the obstacles."""
        agents = [COLORS[3]] * PREDATORS + [COLORS[2]] * PREY
        return particles.draw(state, RADIUS, agents, [PALE] * OBSTACLES)


def fine(x: Array) -> Array:
    """The penalty at a distance x [...] from the centre: 0 up to 0.9, then increasing."""
    outside = jnp.minimum(jnp.exp(2 * x - 2), 10.0)
    return jnp.where(x < 0.9, 0.0, jnp.where(x < 1.0, 10 * (x - 0.9), outside))
