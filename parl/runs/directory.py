"""A run's directory: config.json, metrics.jsonl, checkpoints/, result.json and curve.png.

A large replay is stored in replay/, in pieces that checkpoints share. The directory is a run once
it has config.json, which is written after the first checkpoint. The process that starts or resumes
a run holds the lock on its file .lock.
"""

import contextlib
import dataclasses
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from parl.core.errors import ConfigError
from parl.core.files import RESUME, write_json
from parl.core.locks import Held, Lock, read_lock
from parl.report.metrics import METRICS, plain
from parl.runs.checkpoints import Checkpoints
from parl.runs.config import RunConfig, from_dict
from parl.runs.fetch import run_path

LOCK = ".lock"


class RunDir(Checkpoints):
    """Paths and files of one run."""

    def __init__(self, path: str | Path):
        super().__init__(run_path(path))
        self.lock: Lock | None = None
        self.made = False  # whether this object created the directory
        self.iterations = 0  # trained by this process

    # --- starting and resuming ----------------------------------------------------------------

    @classmethod
    def create(cls, path: str | Path, config: RunConfig) -> "RunDir":
        """A new run's directory with its config. Raises ConfigError if it already exists."""
        run = cls(path)
        run.claim(config.run_id)
        run.write_config(config)
        return run

    @classmethod
    def of_new(cls, out: str | Path | None, otherwise: Path, run_id: str) -> "RunDir":
        """Claims the directory `out`, or a free one named after `otherwise`, for a new run."""
        if out is None:
            return cls.create_free(otherwise, run_id)
        run = cls(out)
        run.claim(run_id)
        return run

    @classmethod
    def create_free(cls, path: Path, run_id: str) -> "RunDir":
        """Creates a directory for a run: `path`, or path-2, path-3, ... if that exists."""
        for number in itertools.count(1):
            run = cls(path if number == 1 else path.with_name(f"{path.name}-{number}"))
            with usable(run.path):
                try:
                    run.path.mkdir(parents=True)
                except FileExistsError:
                    continue
            run.made = True
            run.claim(run_id)
            return run
        raise AssertionError  # the count has no end

    def claim(self, run_id: str) -> None:
        """Claims the directory for a new run; replaces an earlier start that never became a run.

        Raises ConfigError if there is a run or anything else that a run would overwrite, and Held
        if another process trains there.
        """
        with usable(self.path):
            self.check_is_no_run()
            if not self.path.is_dir():
                self.path.mkdir(parents=True)
                self.made = True
        started = (self.path / LOCK).exists()
        self.hold()
        try:
            self.check_is_no_run()
            self.remove_start()
            if odd := self.in_the_way():
                raise ConfigError(
                    f"{self.path} holds {odd}, which is not of a run that can be continued; move "
                    "it away or choose another --out."
                )
            with usable(self.path):
                self.mark(run_id)
                self.checkpoints.mkdir(exist_ok=True)
        except BaseException:
            if not started:
                (self.path / LOCK).unlink(missing_ok=True)
            self.release()
            raise

    def check_is_no_run(self) -> None:
        """Raises ConfigError if the directory already holds a run."""
        if self.is_run():
            raise ConfigError(
                f"{self.path} already holds a run: continue it with 'parl resume {self.path}' or "
                "choose another --out."
            )

    def hold(self) -> None:
        """Locks the directory for training. Raises Held if another process trains there."""
        try:
            with usable(self.path):
                self.lock = Lock(self.path / LOCK)
        except Held as error:
            raise Held(
                f"{self.path} is in use: {error} trains there; wait for it, stop it, or choose "
                "another directory."
            ) from error

    def mark(self, run_id: str) -> None:
        """Writes the run's id into the lock file."""
        assert self.lock is not None
        self.lock.write({"run_id": run_id})

    def release(self) -> None:
        """Releases the lock."""
        if self.lock is not None:
            self.lock.close()

    def is_run(self) -> bool:
        """Whether this is a run, not an aborted start."""
        if not (self.path / "config.json").exists():
            return False
        return bool(self.saved() or self.has_metrics() or (self.path / "result.json").exists())

    def has_metrics(self) -> bool:
        """Whether a line of metrics was written."""
        file = self.path / METRICS
        return file.exists() and file.stat().st_size > 0

    def in_the_way(self) -> str:
        """A file that a new run would overwrite; empty if there is none."""
        if saved := self.saved():
            return f"checkpoints/{saved[0]}"
        there = {
            METRICS: self.has_metrics(),
            "result.json": (self.path / "result.json").exists(),
            "tensorboard": (self.path / "tensorboard").exists(),
        }
        return next((name for name, is_there in there.items() if is_there), "")

    def remove_start(self) -> None:
        """Removes the files of a start that did not become a run, identified by the lock file."""
        config = self.path / "config.json"
        run_id = read_lock(self.path / LOCK).get("run_id")
        if (run_id is None and not config.exists()) or self.has_metrics():
            return
        if self.saved() == [0] and self.owner(0) == run_id:
            config.unlink(missing_ok=True)
            self.remove([0])
        if not self.saved():
            for file in (config, self.path / METRICS):
                file.unlink(missing_ok=True)
            shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
        self.clean()

    def abandon(self) -> None:
        """Removes all files of a start, and the directory if it was created for it."""
        with contextlib.suppress(OSError):
            (self.path / METRICS).unlink(missing_ok=True)
            self.remove_start()
            (self.path / LOCK).unlink(missing_ok=True)
            self.checkpoints.rmdir()
            if self.made:
                self.path.rmdir()

    # --- config, result -----------------------------------------------------------------------

    def write_config(self, config: RunConfig) -> None:
        """Replaces config.json."""
        write_json(self.path / "config.json", dataclasses.asdict(config), cure=RESUME)

    def config(self) -> RunConfig:
        """Reads config.json. Raises ConfigError if there is no run."""
        file = self.path / "config.json"
        with usable(self.path):
            is_there = file.exists()
        if not is_there:
            if (self.path / LOCK).exists():
                raise ConfigError(
                    f"{self.path} holds a start that did not become a run: start it again with "
                    f"'parl train' and --out {self.path}."
                )
            raise ConfigError(f"{self.path} is not a run directory: it has no config.json.")
        try:
            return from_dict(json.loads(file.read_text()))
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise ConfigError(f"{file} is not readable: {error}.") from error

    def write_result(self, result: dict[str, Any]) -> None:
        """Replaces result.json."""
        write_json(self.path / "result.json", plain(result), cure=RESUME)

    def forget_after(self, newer: Iterable[int]) -> None:
        """Removes newer checkpoints and the result."""
        (self.path / "result.json").unlink(missing_ok=True)
        self.remove(newer)

    def result(self, steps: int, run_id: str) -> dict[str, Any] | None:
        """The result of a run that is finished and saved with at least `steps` steps, or None."""
        try:
            found = json.loads((self.path / "result.json").read_text())
            reached = found["env_steps"]
            return found if reached >= steps and self.is_good(reached, run_id) else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


@contextlib.contextmanager
def usable(path: Path) -> Iterator[None]:
    """Converts errors of using a directory into a ConfigError."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot use {str(path)[:200]!r} as a run's directory: {reason}."
        ) from error
