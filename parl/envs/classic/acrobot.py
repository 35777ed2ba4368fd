"""Acrobot-v1 as pure functions (Sutton, 1996; dynamics of Sutton and Barto's book)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, INK, PALE, Canvas

GRAVITY = 9.8  # both links have mass 1, length 1 and moment of inertia 1
CENTER = 0.5  # of mass, along a link
TIME_STEP = 0.2
MAX_SPEED_1 = 4 * np.pi
MAX_SPEED_2 = 9 * np.pi


class AcrobotState(struct.PyTreeNode):
    """Angles and speeds of the two links, and the time."""

    physics: Array  # [4] theta1, theta2 in [-pi, pi], 0 hangs down; theta1_dot, theta2_dot
    time: Array  # [] int32, steps since the reset


@dataclass(frozen=True)
class Acrobot:
    """Swing two links above the bar by torque -1, 0 or 1 on the joint; reward -1 until there."""

    max_steps: int = 500

    @property
    def spec(self) -> EnvSpec:
        high = np.array([1, 1, 1, 1, MAX_SPEED_1, MAX_SPEED_2], np.float32)
        return EnvSpec(
            id="jax:Acrobot-v1",
            observation_space=Box((6,), low=-high, high=high),
            action_space=Discrete(3),
            max_steps=self.max_steps,
        )

    def reset(self, key: Array) -> tuple[AcrobotState, Array]:
        physics = jax.random.uniform(key, (4,), minval=-0.1, maxval=0.1)
        return AcrobotState(physics, jnp.int32(0)), observe(*physics)

    def step(
        self, state: AcrobotState, action: Array, key: Array
    ) -> tuple[AcrobotState, Array, Array, Array, Array]:
        torque = action.astype(jnp.float32) - 1
        theta1, theta2, speed1, speed2 = runge_kutta(state.physics, torque)
        theta1, theta2 = wrap(theta1), wrap(theta2)
        speed1 = jnp.clip(speed1, -MAX_SPEED_1, MAX_SPEED_1)
        speed2 = jnp.clip(speed2, -MAX_SPEED_2, MAX_SPEED_2)

        time = state.time + 1
        terminated = -jnp.cos(theta1) - jnp.cos(theta2 + theta1) > 1
        return (
            AcrobotState(jnp.stack([theta1, theta2, speed1, speed2]), time),
            observe(theta1, theta2, speed1, speed2),
            jnp.where(terminated, 0.0, -1.0),
            terminated,
            time >= self.max_steps,
        )

    def draw(self, state: AcrobotState) -> np.ndarray:
        """Both links, and the bar that the tip has to reach."""
        theta1, theta2 = np.asarray(state.physics)[:2]
        elbow = np.array([np.sin(theta1), -np.cos(theta1)])
        tip = elbow + np.array([np.sin(theta1 + theta2), -np.cos(theta1 + theta2)])
        canvas = Canvas(-2.3, 2.3)
        canvas.line([(-2.3, 1), (2.3, 1)], PALE, 0.03)
        canvas.line([(0, 0), elbow], COLORS[0], 0.14)
        canvas.line([elbow, tip], COLORS[1], 0.14)
        for joint in ((0, 0), elbow):
            canvas.disc(joint, 0.08, INK)
        return canvas.picture()


def runge_kutta(physics: Array, torque: Array) -> Array:
    """One classical fourth-order step: physics [4] to physics [4], TIME_STEP later."""
    k1 = derivative(physics, torque)
    k2 = derivative(physics + TIME_STEP / 2 * k1, torque)
    k3 = derivative(physics + TIME_STEP / 2 * k2, torque)
    k4 = derivative(physics + TIME_STEP * k3, torque)
    return physics + TIME_STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def derivative(physics: Array, torque: Array) -> Array:
    """Time derivative [4] of physics [4] (Sutton and Barto, 'book' dynamics)."""
    theta1, theta2, speed1, speed2 = physics
    cos2, sin2 = jnp.cos(theta2), jnp.sin(theta2)
    d1 = CENTER**2 + (1 + CENTER**2 + 2 * CENTER * cos2) + 2
    d2 = CENTER**2 + CENTER * cos2 + 1
    # cos(x - pi / 2) is written sin(x): subtracting pi / 2 would round x
    phi2 = CENTER * GRAVITY * jnp.sin(theta1 + theta2)
    phi1 = (
        -CENTER * speed2**2 * sin2
        - 2 * CENTER * speed2 * speed1 * sin2
        + (CENTER + 1) * GRAVITY * jnp.sin(theta1)
        + phi2
    )
    acc2 = (torque + d2 / d1 * phi1 - CENTER * speed1**2 * sin2 - phi2) / (
        CENTER**2 + 1 - d2**2 / d1
    )
    acc1 = -(d2 * acc2 + phi1) / d1
    return jnp.stack([speed1, speed2, acc1, acc2])


def wrap(angle: Array) -> Array:
    """The same angle in [-pi, pi]."""
    return angle - 2 * np.pi * jnp.round(angle / (2 * np.pi))


def observe(theta1: Array, theta2: Array, speed1: Array, speed2: Array) -> Array:
    """The observation [6] of a state."""
    return jnp.stack(
        [jnp.cos(theta1), jnp.sin(theta1), jnp.cos(theta2), jnp.sin(theta2), speed1, speed2]
    )
