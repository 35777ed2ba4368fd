"""Writes a run's checkpoints, removes old ones, and restores a run from one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from parl.agents.execution.protocol import Execution
from parl.agents.learner import MAX_BAD
from parl.core.checkpoint import NONSENSE, Checkpoint
from parl.core.errors import DamagedCheckpoint, ParlError
from parl.core.finite import not_finite
from parl.core.manifest import quantity
from parl.report.progress import Progress
from parl.runs.books import Books, env_steps_of
from parl.runs.clock import Clock
from parl.runs.config import RunConfig
from parl.runs.directory import RunDir
from parl.runs.interruption import Signals
from parl.runs.judge import Judge
from parl.runs.keep import Keeper
from parl.runs.schedules import restarted


class Diverged(ParlError):
    """Learning gave NaN or infinity."""

    exit_code = 1


class Phases:
    """Shows what a run does and counts the time of it."""

    def __init__(self, progress: Progress, clock: Clock):
        self.progress, self.clock = progress, clock

    @contextmanager
    def doing(self, phase: str, what: str) -> Iterator[None]:
        """Shows a phase and counts its time as spent on `what`."""
        self.progress.phase(phase)
        with self.clock.spending(what):
            yield
        self.progress.phase("training")


class Saver:
    """The checkpoints of one run while it is trained."""

    def __init__(
        self,
        config: RunConfig,
        execution: Execution,
        run: RunDir,
        books: Books,
        judge: Judge,
        signals: Signals,
        phases: Phases,
        keeper: Keeper | None,
    ):
        self.config, self.execution, self.run, self.books = config, execution, run, books
        self.judge, self.signals, self.phases, self.keeper = judge, signals, phases, keeper
        self.last_saved = -1  # environment steps

    @property
    def is_due(self) -> bool:
        """Whether the current step is not saved yet."""
        return self.last_saved != env_steps_of(self.execution)

    @property
    def is_sound(self) -> bool:
        """Whether the last update was finite; after a bad one the run is not saved."""
        return not np.any(self.execution.discarded.in_row)

    @property
    def is_best_unsaved(self) -> bool:
        """Whether this is the best policy so far and is not saved yet."""
        best = self.judge.best
        return best is not None and best[1] == env_steps_of(self.execution) and self.is_due

    @property
    def devices(self) -> dict[str, Any]:
        """The devices that the run computes on."""
        return self.execution.devices._asdict()

    def check(self) -> None:
        """Raises Diverged if a seed's updates keep failing; the last checkpoint is kept."""
        bad = np.atleast_1d(self.execution.discarded.in_row)
        if (bad >= MAX_BAD).any():
            seed = self.config.seeds[int(bad.argmax())]
            raise Diverged(
                f"learning of seed {seed} diverged before step {env_steps_of(self.execution)}: "
                f"{bad.max()} updates in a row became NaN or infinite; the run is back at its last "
                f"good checkpoint, {self.run.checkpoints / str(self.last_saved)}, train anew with "
                "a lower --learning-rate."
            )

    def write(self, phase: str = "saving", spent_on: str = "save") -> None:
        """Writes a checkpoint and removes old ones."""
        now = env_steps_of(self.execution)
        if bad := not_finite(self.execution.algorithm_state):
            raise Diverged(
                f"'{bad}' became NaN or infinite before step {now}; checkpoints up to "
                f"step {self.last_saved} are good, try a lower --learning-rate."
            )
        with self.phases.doing(phase, spent_on), self.signals.save():
            if self.keeper is not None:
                self.keeper.save(now)
            shot = self.execution.snapshot(replay=self.config.checkpoint_replay != "no")
            self.run.save(now, shot.tree, shot.meta | self.meta(shot.exact), shot.ring)
            self.last_saved = now
            self.prune()
        if now:
            self.promise()

    def meta(self, exact: bool) -> dict[str, Any]:
        """What a checkpoint says beside the execution's own."""
        config, books, clock = self.config, self.books, self.phases.clock
        seconds = clock.read()
        return {
            "run_id": config.run_id,
            "schedule_from": config.schedule_from,
            "exact": exact,
            "wall_s": sum(seconds.values()),
            "compile_s": seconds["compile"],
            "seconds": seconds,
            "timed_steps": clock.steps,
            **self.judge.state(),
            "due": books.due,
            "noted": books.noted,
            "parameters": books.parameters,
            "updates": books.updates(self.execution),
            "devices": self.devices,
            "versions": config.versions,
            "config": config.learned(),
        }

    def amend(self) -> None:
        """Writes what an evaluation and a line of metrics changed into this step's checkpoint."""
        asked = {"noted": self.books.noted, "next_parameters": self.books.parameters}
        self.run.amend(self.last_saved, self.judge.state() | {"due": None} | asked)
        self.prune()

    def promise(self) -> None:
        """Sets the message of a signal that ends the run without another save."""
        self.signals.then = (
            f"ended at once; go on from step {self.last_saved} with 'parl resume {self.run.path}'"
        )

    def prune(self) -> None:
        """Removes checkpoints and replays that need not be kept."""
        best, run_id = self.judge.best, self.config.run_id
        self.run.prune(self.config.keep, best[1] if best else None, run_id)
        if self.config.checkpoint_replay == "auto":
            self.run.keep_one_replay(self.last_saved, run_id)
        self.run.sweep()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restores a checkpoint of this run. Raises CheckpointError if that is impossible."""
        meta, books = checkpoint.meta, self.books
        try:
            before = meta.get("parameters", {})
            if before:  # the form of what was saved
                self.execution.change(before)
            self.execution.restore(checkpoint)
            books.parameters = meta.get("next_parameters", before)
            if books.parameters:
                self.execution.change(books.parameters)
            books.noted = {name: float(x) for name, x in meta.get("noted", {}).items()}
            seconds, steps = self.timed(meta)
            books.restore(meta, self.execution)
            self.judge.load(meta)
        except (DamagedCheckpoint, *NONSENSE) as error:
            raise DamagedCheckpoint(f"{checkpoint.path} cannot be resumed: {error}.") from error
        self.phases.clock.add(seconds, steps)
        self.last_saved = env_steps_of(self.execution)
        if self.keeper is not None:
            self.keeper.forget_after(self.last_saved)
        if bad := not_finite(self.execution.algorithm_state):
            raise DamagedCheckpoint(f"{checkpoint.path} has NaN or infinity in '{bad}'.")
        if meta.get("schedule_from", 0) != self.config.schedule_from:
            self.execution.set_state(restarted(self.execution.state))

    def timed(self, meta: dict[str, Any]) -> tuple[dict[str, float], int]:
        """(seconds of earlier sessions, steps they timed); an error of NONSENSE if invalid."""
        compiling, whole = quantity(meta["compile_s"]), quantity(meta["wall_s"])
        # older versions saved only these two
        older = {"compile": compiling, "train": max(whole - compiling, 0.0)}
        seconds = {name: quantity(x) for name, x in meta.get("seconds", older).items()}
        return seconds, int(quantity(meta.get("timed_steps", env_steps_of(self.execution))))
