"""A clock for Stable-Baselines3's callbacks, shared by the drivers beside it."""

import time
from collections.abc import Callable

from stable_baselines3.common.callbacks import BaseCallback


class Stopwatch(BaseCallback):
    """Marks time, steps and updates between two rollouts, where no update is under way.

    `wait` takes the model and returns when its device is idle.
    """

    def __init__(self, start_at: int, wait: Callable):
        super().__init__()
        self.start_at, self.wait = start_at, wait
        self.first = self.last = None

    def _mark(self):
        self.wait(self.model)
        updates = self.model.logger.name_to_value.get("train/n_updates", 0)
        return time.perf_counter(), self.model.num_timesteps, updates

    def _on_rollout_start(self):
        if self.first is None and self.model.num_timesteps >= self.start_at:
            self.first = self._mark()

    def _on_step(self):
        return True

    def _on_training_end(self):
        self.last = self._mark()

    def between(self):
        """(seconds, steps, updates) between the two marks."""
        return tuple(b - a for a, b in zip(self.first, self.last, strict=True))
