"""Pendulum-v1 as pure functions."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.spec import Box, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, INK, Canvas

TIME_STEP = 0.05
MAX_SPEED = 8.0
MAX_TORQUE = 2.0


class PendulumState(struct.PyTreeNode):
    """Angle and speed of the pendulum, and the time."""

    physics: Array  # [2] theta in [-pi, pi], 0 is upright; theta_dot
    time: Array  # [] int32, steps since the reset


@dataclass(frozen=True)
class Pendulum:
    """Swing a pendulum up with little torque; reward is minus angle, speed and torque squared."""

    max_steps: int = 200
    gravity: float = 10.0
    mass: float = 1.0
    length: float = 1.0

    @property
    def spec(self) -> EnvSpec:
        high = np.array([1, 1, MAX_SPEED], np.float32)
        return EnvSpec(
            id="jax:Pendulum-v1",
            observation_space=Box((3,), low=-high, high=high),
            action_space=Box((1,), low=-1.0, high=1.0),
            max_steps=self.max_steps,
        )

    def reset(self, key: Array) -> tuple[PendulumState, Array]:
        high = np.array([np.pi, 1], np.float32)
        physics = jax.random.uniform(key, (2,), minval=-high, maxval=high)
        return PendulumState(physics, jnp.int32(0)), observe(*physics)

    def step(
        self, state: PendulumState, action: Array, key: Array
    ) -> tuple[PendulumState, Array, Array, Array, Array]:
        theta, theta_dot = state.physics
        torque = MAX_TORQUE * jnp.clip(action[0], -1, 1)
        cost = theta**2 + 0.1 * theta_dot**2 + 0.001 * torque**2

        fall = 3 * self.gravity / (2 * self.length) * jnp.sin(theta)
        push = 3 / (self.mass * self.length**2) * torque
        theta_dot = theta_dot + (fall + push) * TIME_STEP
        theta_dot = jnp.clip(theta_dot, -MAX_SPEED, MAX_SPEED)
        theta = theta + theta_dot * TIME_STEP
        # Gymnasium lets theta grow and wraps it for the cost; float32 would lose digits that way
        theta = theta - 2 * np.pi * jnp.round(theta / (2 * np.pi))

        time = state.time + 1
        return (
            PendulumState(jnp.stack([theta, theta_dot]), time),
            observe(theta, theta_dot),
            -cost,
            jnp.bool_(False),
            time >= self.max_steps,
        )

    def draw(self, state: PendulumState) -> np.ndarray:
        """The rod, which hangs from the middle."""
        theta = float(np.asarray(state.physics)[0])
        canvas = Canvas(-1.3, 1.3)
        canvas.line([(0, 0), (-np.sin(theta), np.cos(theta))], COLORS[3], 0.16)
        canvas.disc((0, 0), 0.06, INK)
        return canvas.picture()


@dataclass(frozen=True)
class PendulumMasked(Pendulum):
    """Pendulum without the speed in its observations, which are cos and sin of the angle.

    Swinging up needs memory.
    """

    @property
    def spec(self) -> EnvSpec:
        space = Box((2,), low=-1.0, high=1.0)
        return dataclasses.replace(
            super().spec, id="jax:PendulumMasked-v1", observation_space=space
        )

    def reset(self, key: Array) -> tuple[PendulumState, Array]:
        state, obs = super().reset(key)
        return state, obs[:2]

    def step(
        self, state: PendulumState, action: Array, key: Array
    ) -> tuple[PendulumState, Array, Array, Array, Array]:
        state, obs, reward, terminated, truncated = super().step(state, action, key)
        return state, obs[:2], reward, terminated, truncated


def observe(theta: Array, theta_dot: Array) -> Array:
    """The observation [3] of a state."""
    return jnp.stack([jnp.cos(theta), jnp.sin(theta), theta_dot])
