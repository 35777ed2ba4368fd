"""The checkpoints of a run: saved, found again by name, and removed when there are enough."""

import contextlib
import itertools
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from parl.core import checkpoint
from parl.core.checkpoint import Checkpoint
from parl.core.errors import CheckpointError, ConfigError, DamagedCheckpoint
from parl.logging import best_of, records_of

REPLAY = "replay"  # the part of a checkpoint that lies in a file of its own
LARGE = 1 << 30  # bytes of replay: if there are more, only the newest checkpoint has them
T = TypeVar("T")
LEFT = re.compile(r"\.(?:writing|old|gone)-(\d+)-\d+")  # by writers that died


class Checkpoints:
    """Those of the run in directory `path`, by their environment steps."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.known: dict[int, bool] = {}  # those that were verified, and how that went

    def saved(self) -> list[int]:
        """Environment steps of all checkpoints, ascending; those that a writer set aside, too."""
        if not self.checkpoints.is_dir():
            return []
        with os.scandir(self.checkpoints) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
        aside = [m[1] for name in names if name.startswith(".old-") and (m := LEFT.fullmatch(name))]
        found = [name for name in names if re.fullmatch("0|[1-9][0-9]{0,17}", name)]
        return sorted({int(name) for name in found + aside})

    def save(self, env_steps: int, tree: Any, meta: dict[str, Any]) -> dict[str, np.ndarray]:
        """Writes a checkpoint; returns its arrays by name."""
        path, run_id = self.checkpoints / str(env_steps), meta.get("run_id")
        if path.exists() and self.owner(env_steps) not in (None, run_id):
            raise CheckpointError(f"{path} belongs to another run: move it away and resume.")
        arrays = checkpoint.save(path, tree, meta | {"env_steps": env_steps}, apart=(REPLAY,))
        self.known[env_steps] = True
        return arrays

    def pick(self, run_id: str, which: str | int = "latest", replay: bool = True) -> Checkpoint:
        """The checkpoint called latest, best, or by its environment steps, with or without replay.

        The latest is the newest that is good. Raises CheckpointError, which lists what there is.
        """
        if which == "latest":
            return next(self.good(run_id, replay))
        return self.checked(self.step_of(which), run_id, replay)

    def use(
        self,
        run_id: str,
        which: str | int,
        take: Callable[[Checkpoint], T],
        replay: bool = True,
        found: Checkpoint | None = None,
    ) -> T:
        """What `take` makes of a checkpoint, named as in `pick`; `found` if it was read already.

        Where the latest is asked for and `take` finds it damaged, of the one before.
        """
        found = found or self.pick(run_id, which, replay)
        while True:
            try:
                return take(found)
            except DamagedCheckpoint as error:
                if which != "latest":
                    raise
                print(f"WARNING: {error} Trying the one before.", file=sys.stderr)
                found = next(self.good(run_id, replay, below=found.meta["env_steps"]))

    def step_of(self, which: str | int) -> int:
        """The environment steps of the checkpoint called best, or by them."""
        saved, best = self.saved(), self.best()
        names = [f"{step}{' (best)' * (step == best)}" for step in saved]
        there = f"there are {', '.join(names)}" if names else "there are none"
        if which == "best":
            if best is None:
                raise CheckpointError(f"no checkpoint of {self.path} was evaluated; {there}.")
            return best
        if not str(which).isdecimal():
            raise ConfigError(
                f"no checkpoint is called '{which}': say best, latest or one of its "
                f"environment steps; {there}."
            )
        if int(which) not in saved:
            raise CheckpointError(f"{self.path} has no checkpoint {which}; {there}.")
        return int(which)

    def best(self) -> int | None:
        """Environment steps of the checkpoint with the best greedy evaluation, if there is one."""
        saved = set(self.saved())
        found = best_of(r for r in records_of(self.path) if r["env_steps"] in saved)
        return found and found[1]

    def good(
        self, run_id: str, replay: bool = True, below: float = math.inf
    ) -> Iterator[Checkpoint]:
        """All good checkpoints, the newest first, with a loud line for each that is not.

        A run that goes on may remove one after it was listed: then they are listed again. Raises
        CheckpointError in place of an end.
        """
        listed: list[int] | None = None
        while (now := [step for step in self.saved() if step < below]) != listed:
            listed = now
            for env_steps in reversed(listed):
                try:
                    found = self.checked(env_steps, run_id, replay)
                except CheckpointError as error:
                    if checkpoint.standing(self.checkpoints / str(env_steps)).exists():
                        print(f"WARNING: {error} Trying the one before.", file=sys.stderr)
                else:
                    yield found
        raise CheckpointError(
            f"{self.checkpoints} has no good checkpoint, so the run cannot go on; start it anew "
            "with 'parl train' and another --out."
        )

    def latest(self, run_id: str) -> Checkpoint:
        """The newest good checkpoint. Raises CheckpointError if there is none."""
        return self.pick(run_id)

    def checked(self, env_steps: int, run_id: str, replay: bool = True) -> Checkpoint:
        """A checkpoint of this run. Raises CheckpointError for a corrupt or foreign one."""
        without = () if replay else (REPLAY,)
        found = checkpoint.read(self.checkpoints / str(env_steps), without)
        check_owner(found, env_steps, run_id)
        return found

    def owner(self, env_steps: int) -> str | None:
        """The run that a checkpoint says it is of; None if it does not say."""
        try:
            meta = checkpoint.read_meta(self.checkpoints / str(env_steps))
        except CheckpointError:
            return None
        run_id = meta.get("run_id") if meta.get("env_steps") == env_steps else None
        return run_id if isinstance(run_id, str) else None

    def is_good(self, env_steps: int, run_id: str | None) -> bool:
        """Whether a checkpoint of this run is intact; verified once, without taking memory."""
        if env_steps not in self.known:
            try:
                found = checkpoint.read(self.checkpoints / str(env_steps), mapped=True)
                check_owner(found, env_steps, run_id)
                self.known[env_steps] = True
            except CheckpointError:
                self.known[env_steps] = False
        return self.known[env_steps]

    def prune(self, keep: int, best: int | None, run_id: str | None = None) -> None:
        """Removes checkpoints of this run but the last `keep` good ones and the best.

        Whatever else lies there stays, but for what dead writers of checkpoints left.
        """
        own = [step for step in reversed(self.saved()) if self.owner(step) == run_id]
        good = (step for step in own if self.is_good(step, run_id))
        if kept := set(itertools.islice(good, keep)):
            self.remove(step for step in own if step not in {*kept, best})
        self.clean()

    def newer_than(self, env_steps: int, run_id: str) -> list[int]:
        """Checkpoints of this run beyond one of them."""
        return [step for step in self.saved() if step > env_steps and self.owner(step) == run_id]

    def remove(self, steps: Iterable[int]) -> None:
        """Removes checkpoints: each is gone at once or stays whole."""
        for step in steps:
            path = checkpoint.standing(self.checkpoints / str(step))
            with contextlib.suppress(OSError):
                path.rename(path.with_name(f".gone-{step}-{os.getpid()}"))
            self.known.pop(step, None)
        self.clean()

    def clean(self) -> None:
        """Removes what dead writers left, but what is all there is of a checkpoint."""
        if not self.checkpoints.is_dir():
            return
        for path in self.checkpoints.iterdir():
            match = LEFT.fullmatch(path.name)
            if match and not (path.name.startswith(".old-") and not self.has(match[1])):
                shutil.rmtree(path, ignore_errors=True)

    def has(self, name: str) -> bool:
        """Whether a checkpoint stands under its name."""
        return (self.checkpoints / name).exists()

    def amend(self, env_steps: int, changes: dict[str, Any]) -> None:
        """Changes what a checkpoint says beside its arrays."""
        checkpoint.amend(self.checkpoints / str(env_steps), changes)

    def keep_one_replay(self, newest: int, run_id: str) -> None:
        """Where the replay of the newest checkpoint is large, takes it out of all others."""
        file = self.checkpoints / str(newest) / f"{REPLAY}.bin"
        if not file.exists() or file.stat().st_size <= LARGE:
            return
        for step in self.saved():
            if step != newest and self.owner(step) == run_id:
                checkpoint.forget(checkpoint.standing(self.checkpoints / str(step)), REPLAY)


def check_owner(found: Checkpoint, env_steps: int, run_id: str | None) -> None:
    """Raises CheckpointError where a checkpoint is of another run or another step."""
    if found.meta.get("run_id") != run_id:
        raise CheckpointError(f"{found.path} belongs to another run.")
    if found.meta.get("env_steps") != env_steps:
        raise CheckpointError(f"{found.path} was saved under another name.")
