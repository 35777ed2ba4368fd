"""Keeps what a run collects as a data set."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from parl.core.errors import ConfigError
from parl.core.types import Rollout
from parl.datasets.card import card_for
from parl.datasets.cutter import Cutter
from parl.datasets.writer import SHARD_STEPS, Writer
from parl.runs.build import Parts
from parl.runs.config import versions


class Keeper:
    """Takes a run's rollouts and writes their episodes; those under way at a resume are left out.

    Raises ConfigError where the directory holds anything but the data of this run.
    """

    def __init__(self, parts: Parts):
        config, spec = parts.config, parts.factory.spec
        if parts.layout.mode == "async":
            raise ConfigError("record keeps the rollouts of whole iterations: use --mode sync.")
        policy = {"run_id": config.run_id, "algorithm": config.algorithm, "actions": "training"}
        card = card_for(spec, config.env, policy=policy, versions=versions())
        self.writer = Writer(Path(config.record), card, reopens=True)
        self.cutter, self.lead = Cutter(spec), config.num_seeds > 1

    def __call__(self, rollout: Rollout, env_steps: int) -> None:
        """Takes a rollout [T, B, ...] and the step at its end; [K, T, B, ...] for several seeds."""
        steps: Any = jax.tree.map(np.asarray, rollout.steps._replace(extras={}))
        if self.lead:
            steps = jax.tree.map(beside, steps)
        for found in self.cutter.add(steps):
            self.writer.add(found)
        if self.writer.waiting_steps >= SHARD_STEPS:
            self.writer.flush(env_steps)

    def save(self, env_steps: int) -> None:
        """Writes what is there, at a checkpoint."""
        self.writer.flush(env_steps)

    def forget_after(self, env_steps: int) -> None:
        """Leaves out what was collected later, which will be collected once more."""
        self.writer.forget_after(env_steps)

    def finish(self, env_steps: int) -> None:
        """Cuts the episodes under way; then the data set is complete."""
        self.writer.add(self.cutter.rest())
        self.writer.flush(env_steps)
        self.writer.finish()

    def close(self) -> None:
        """Lets the directory go."""
        self.writer.lock.close()


def beside(x: np.ndarray) -> np.ndarray:
    """[K, T, B, ...] as [T, K * B, ...]."""
    x = np.moveaxis(x, 0, 1)
    return x.reshape(len(x), -1, *x.shape[3:])
