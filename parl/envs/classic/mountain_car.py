"""MountainCarContinuous-v0 as pure functions (Moore, 1990)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.spec import Box, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, INK, PALE, Canvas

MIN_POSITION = -1.2
MAX_POSITION = 0.6
GOAL_POSITION = 0.45
MAX_SPEED = 0.07


class MountainCarState(struct.PyTreeNode):
    """Position and velocity of the car, and the time."""

    physics: Array  # [2] position, velocity; also the observation
    time: Array  # [] int32, steps since the reset


@dataclass(frozen=True)
class MountainCarContinuous:
    """Rock a weak car up a hill; reward 100 at the top, minus a tenth of the action squared."""

    max_steps: int = 999
    power: float = 0.0015
    gravity: float = 0.0025

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            id="jax:MountainCarContinuous-v0",
            observation_space=Box(
                (2,),
                low=np.array([MIN_POSITION, -MAX_SPEED], np.float32),
                high=np.array([MAX_POSITION, MAX_SPEED], np.float32),
            ),
            action_space=Box((1,), low=-1.0, high=1.0),
            max_steps=self.max_steps,
        )

    def reset(self, key: Array) -> tuple[MountainCarState, Array]:
        position = jax.random.uniform(key, (), minval=-0.6, maxval=-0.4)
        physics = jnp.stack([position, jnp.zeros_like(position)])
        return MountainCarState(physics, jnp.int32(0)), physics

    def step(
        self, state: MountainCarState, action: Array, key: Array
    ) -> tuple[MountainCarState, Array, Array, Array, Array]:
        position, velocity = state.physics
        force = jnp.clip(action[0], -1, 1)
        velocity = velocity + (force * self.power - self.gravity * jnp.cos(3 * position))
        velocity = jnp.clip(velocity, -MAX_SPEED, MAX_SPEED)
        position = jnp.clip(position + velocity, MIN_POSITION, MAX_POSITION)
        # the left wall stops the car
        velocity = jnp.where((position <= MIN_POSITION) & (velocity < 0), 0.0, velocity)

        time = state.time + 1
        terminated = (position >= GOAL_POSITION) & (velocity >= 0)
        # as in Gymnasium, the cost is that of the action before clipping
        reward = jnp.where(terminated, 100.0, 0.0) - 0.1 * jnp.square(action[0])
        physics = jnp.stack([position, velocity])
        return MountainCarState(physics, time), physics, reward, terminated, time >= self.max_steps

    def draw(self, state: MountainCarState) -> np.ndarray:
        """The car between the hills, and the flag at the top."""
        height = lambda x: 0.45 * np.sin(3 * x) + 0.55
        x = float(np.asarray(state.physics)[0])
        canvas = Canvas(MIN_POSITION, MIN_POSITION + 1.8)
        ground = np.linspace(MIN_POSITION, MAX_POSITION, 100)
        shift = MIN_POSITION + 0.2
        canvas.line(np.stack([ground, height(ground) + shift], 1), PALE, 0.02)
        foot = height(GOAL_POSITION) + shift
        canvas.line([(GOAL_POSITION, foot), (GOAL_POSITION, foot + 0.2)], INK, 0.01)
        canvas.disc((x, height(x) + shift + 0.05), 0.05, COLORS[0])
        return canvas.picture()
