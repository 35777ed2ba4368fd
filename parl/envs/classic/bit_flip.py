"""Bit flipping (Andrychowicz et al. 2017, arXiv:1707.01495, section 3.1) as pure functions."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.goals import ACHIEVED, DESIRED
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, PALE, Canvas


class BitFlipState(struct.PyTreeNode):
    """The bits as they are and as they are asked for, and the time."""

    bits: Array  # [N] 0 or 1
    goal: Array  # [N] 0 or 1
    time: Array  # [] int32, steps since the reset


@dataclass(frozen=True)
class BitFlip:
    """Make N bits equal to N others, flipping one a step, in N steps; reward -1 until they are.

    Both start at random. With perfect play the mean return is close to 1 - N / 2.
    """

    bits: int = 15

    @property
    def spec(self) -> EnvSpec:
        parts = ("observation", ACHIEVED, DESIRED)
        return EnvSpec(
            id=f"jax:BitFlip-{self.bits}",
            observation_space={name: Box((self.bits,), low=0.0, high=1.0) for name in parts},
            action_space=Discrete(self.bits),
            max_steps=self.bits,
        )

    def reset(self, key: Array) -> tuple[BitFlipState, dict[str, Array]]:
        drawn = jax.random.bernoulli(key, shape=(2, self.bits)).astype(jnp.float32)
        state = BitFlipState(drawn[0], drawn[1], jnp.int32(0))
        return state, self.observe(state)

    def step(
        self, state: BitFlipState, action: Array, key: Array
    ) -> tuple[BitFlipState, dict[str, Array], Array, Array, Array]:
        bits = state.bits.at[action].set(1 - state.bits[action])
        state = BitFlipState(bits, state.goal, state.time + 1)
        reward = self.compute_reward(bits, state.goal, {})
        terminated = self.compute_terminated(bits, state.goal, {})
        return state, self.observe(state), reward, terminated, state.time >= self.bits

    def observe(self, state: BitFlipState) -> dict[str, Array]:
        """The bits, which are also what was achieved, and the goal."""
        return {"observation": state.bits, ACHIEVED: state.bits, DESIRED: state.goal}

    def compute_reward(self, achieved_goal: Array, desired_goal: Array, info: Any) -> Array:
        """0 at the goal, -1 elsewhere: [...] for goals [..., N]."""
        return jnp.where(self.compute_terminated(achieved_goal, desired_goal, info), 0.0, -1.0)

    def compute_terminated(self, achieved_goal: Array, desired_goal: Array, info: Any) -> Array:
        """Whether the goal is reached, which ends the episode: [...] bool."""
        return (achieved_goal == desired_goal).all(-1)

    def draw(self, state: BitFlipState) -> np.ndarray:
        """The bits above those that are asked for."""
        canvas = Canvas(0, self.bits)
        for row, bits in enumerate((state.goal, state.bits)):
            low = self.bits / 2 - 1 + row
            for i, bit in enumerate(np.asarray(bits)):
                corners = [(i, low), (i + 0.9, low), (i + 0.9, low + 0.9), (i, low + 0.9)]
                canvas.polygon(corners, COLORS[0] if bit else PALE)
        return canvas.picture()
