"""A run's directory: config.json, metrics.jsonl, checkpoints/, result.json, curve.png."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from parl.config import RunConfig, from_dict
from parl.core import checkpoint
from parl.core.checkpoint import Checkpoint
from parl.core.errors import CheckpointError, ConfigError


class RunDir:
    """Paths and files of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"

    @classmethod
    def create(cls, path: str | Path, config: RunConfig) -> "RunDir":
        """A new run's directory. Raises ConfigError where one exists already."""
        run = cls(path)
        if (run.path / "config.json").exists():
            raise ConfigError(
                f"{run.path} already holds a run: continue it with 'parl resume {run.path}' or "
                "choose another --out."
            )
        try:
            run.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write to {run.path}: {error.strerror}.") from error
        run.write_config(config)
        return run

    def write_config(self, config: RunConfig) -> None:
        """Replaces config.json."""
        write_json(self.path / "config.json", dataclasses.asdict(config))

    def config(self) -> RunConfig:
        """Raises ConfigError where there is no run."""
        file = self.path / "config.json"
        if not file.exists():
            raise ConfigError(f"{self.path} is not a run directory: it has no config.json.")
        try:
            return from_dict(json.loads(file.read_text()))
        except (ValueError, AttributeError) as error:
            raise ConfigError(f"{file} is not readable: {error}.") from error

    def saved(self) -> list[int]:
        """Environment steps of all checkpoints, ascending."""
        if not self.checkpoints.is_dir():
            return []
        return sorted(int(p.name) for p in self.checkpoints.iterdir() if p.name.isdecimal())

    def save(self, env_steps: int, tree: Any, meta: dict[str, Any]) -> dict[str, np.ndarray]:
        """Writes a checkpoint; returns its arrays by name."""
        path = self.checkpoints / str(env_steps)
        return checkpoint.save(path, tree, meta | {"env_steps": env_steps})

    def latest(self, run_id: str) -> Checkpoint:
        """The newest checkpoint that is good, with a loud line for each that is not.

        Raises CheckpointError if none is.
        """
        for env_steps in reversed(self.saved()):
            try:
                return self.checked(env_steps, run_id)
            except CheckpointError as error:
                print(f"WARNING: {error} Trying the one before.", file=sys.stderr)
        raise CheckpointError(
            f"{self.checkpoints} has no good checkpoint, so the run cannot go on; start it anew "
            "with 'parl train' and another --out."
        )

    def checked(self, env_steps: int, run_id: str) -> Checkpoint:
        """A checkpoint of this run. Raises CheckpointError for a corrupt or foreign one."""
        found = checkpoint.read(self.checkpoints / str(env_steps))
        if found.meta.get("run_id") != run_id:
            raise CheckpointError(f"{found.path} belongs to another run.")
        if found.meta.get("env_steps") != env_steps:
            raise CheckpointError(f"{found.path} was saved under another name.")
        return found

    def prune(self, keep: int, best: int | None) -> None:
        """Removes all checkpoints but the last `keep` and the best, and what dead writers left."""
        old = [str(env_steps) for env_steps in self.saved()[:-keep] if env_steps != best]
        for path in [*map(self.checkpoints.joinpath, old), *self.checkpoints.glob(".*")]:
            shutil.rmtree(path, ignore_errors=True)

    def write_result(self, result: dict[str, Any]) -> None:
        """Replaces result.json."""
        write_json(self.path / "result.json", result)


def write_json(path: Path, content: dict[str, Any], indent: int | None = 1) -> None:
    """Writes whole or not at all."""
    temporary = path.with_name(path.name + ".writing")
    temporary.write_text(json.dumps(content, indent=indent) + "\n")
    temporary.replace(path)
