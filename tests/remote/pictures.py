"""An environment with images, for tests in other processes."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Square(gymnasium.Env):
    """A bright square on four frames of 84 x 84; it pays to hold it in the middle for 20 steps."""

    observation_space = Box(0, 255, (84, 84, 4), np.uint8)
    action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.time = int(self.np_random.integers(0, 77)), 0
        return self.picture(), {}

    def step(self, action: Any) -> Any:
        self.place = int(np.clip(self.place + 8 * (int(action) - 1), 0, 76))
        self.time += 1
        reward = float(abs(self.place - 38) <= 8)
        return self.picture(), reward, False, self.time >= 20, {}

    def picture(self) -> np.ndarray:
        """[84, 84, 4]."""
        shown = np.zeros((84, 84, 4), np.uint8)
        shown[38:46, self.place : self.place + 8] = 255
        return shown
