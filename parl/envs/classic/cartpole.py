"""CartPole-v1 as pure functions (Barto, Sutton and Anderson, 1983)."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, INK, PALE, Canvas

TIME_STEP = 0.02
X_LIMIT = 2.4
THETA_LIMIT = 12 * 2 * np.pi / 360


class CartPoleState(struct.PyTreeNode):
    """Positions and speeds of cart and pole, and the time."""

    physics: Array  # [4] x, x_dot, theta, theta_dot; CartPole's observation
    time: Array  # [] int32, steps since the reset


@dataclass(frozen=True)
class CartPole:
    """Push a cart left (0) or right (1) so that its pole stays up; reward 1 a step."""

    max_steps: int = 500
    gravity: float = 9.8
    mass_cart: float = 1.0
    mass_pole: float = 0.1
    length: float = 0.5  # half of the pole's, as in Gymnasium
    force: float = 10.0

    @property
    def spec(self) -> EnvSpec:
        high = np.array([2 * X_LIMIT, np.inf, 2 * THETA_LIMIT, np.inf], np.float32)
        return EnvSpec(
            id="jax:CartPole-v1",
            observation_space=Box((4,), low=-high, high=high),
            action_space=Discrete(2),
            max_steps=self.max_steps,
        )

    def reset(self, key: Array) -> tuple[CartPoleState, Array]:
        physics = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return CartPoleState(physics, jnp.int32(0)), physics

    def step(
        self, state: CartPoleState, action: Array, key: Array
    ) -> tuple[CartPoleState, Array, Array, Array, Array]:
        x, x_dot, theta, theta_dot = state.physics
        mass, moment = self.mass_cart + self.mass_pole, self.mass_pole * self.length
        force = jnp.where(action == 1, self.force, -self.force)
        cos, sin = jnp.cos(theta), jnp.sin(theta)

        # Gymnasium's order of operations: float32 then stays within rounding of its float64
        push = (force + moment * jnp.square(theta_dot) * sin) / mass
        theta_acc = (self.gravity * sin - cos * push) / (
            self.length * (4 / 3 - self.mass_pole * jnp.square(cos) / mass)
        )
        x_acc = push - moment * theta_acc * cos / mass

        x = x + TIME_STEP * x_dot
        theta = theta + TIME_STEP * theta_dot
        physics = jnp.stack(
            [x, x_dot + TIME_STEP * x_acc, theta, theta_dot + TIME_STEP * theta_acc]
        )
        time = state.time + 1
        terminated = (jnp.abs(x) > X_LIMIT) | (jnp.abs(theta) > THETA_LIMIT)
        truncated = time >= self.max_steps
        return CartPoleState(physics, time), physics, jnp.float32(1), terminated, truncated

    def draw(self, state: CartPoleState) -> np.ndarray:
        """The cart on its track, and the pole."""
        x, _, theta, _ = np.asarray(state.physics)
        canvas = Canvas(-X_LIMIT, X_LIMIT)
        canvas.line([(-X_LIMIT, 0), (X_LIMIT, 0)], PALE, 0.03)
        canvas.polygon([(x - 0.4, -0.2), (x + 0.4, -0.2), (x + 0.4, 0.2), (x - 0.4, 0.2)], INK)
        tip = x + 4 * self.length * np.sin(theta), 0.2 + 4 * self.length * np.cos(theta)
        canvas.line([(x, 0.2), tip], COLORS[1], 0.12)
        return canvas.picture()


@dataclass(frozen=True)
class CartPoleMasked(CartPole):
    """CartPole without velocities in its observations.

    Observations are x and theta, so balancing needs memory.
    """

    @property
    def spec(self) -> EnvSpec:
        high = np.array([2 * X_LIMIT, 2 * THETA_LIMIT], np.float32)
        space = Box((2,), low=-high, high=high)
        return dataclasses.replace(
            super().spec, id="jax:CartPoleMasked-v1", observation_space=space
        )

    def reset(self, key: Array) -> tuple[CartPoleState, Array]:
        state, obs = super().reset(key)
        return state, obs[::2]

    def step(
        self, state: CartPoleState, action: Array, key: Array
    ) -> tuple[CartPoleState, Array, Array, Array, Array]:
        state, obs, reward, terminated, truncated = super().step(state, action, key)
        return state, obs[::2], reward, terminated, truncated
