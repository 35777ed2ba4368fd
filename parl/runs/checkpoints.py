"""The checkpoints of a run: saved, found again by name, and removed when there are enough."""

import contextlib
import dataclasses
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
from parl.core.pieces import Pieces, Ring, files_of
from parl.report.metrics import best_of, records_of

REPLAY = "replay"  # the part of a checkpoint that lies in a file of its own, or in pieces
LARGE = 1 << 30  # bytes of replay: if there are more, checkpoints share them in pieces
T = TypeVar("T")
LEFT = re.compile(r"\.(?:writing|old|gone)-(\d+)-\d+")  # by writers that died


class Checkpoints:
    """Those of the run in directory `path`, by their environment steps."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.pieces = Pieces(path / REPLAY)
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

    def save(
        self, env_steps: int, tree: dict[str, Any], meta: dict[str, Any], ring: Ring | None = None
    ) -> dict[str, np.ndarray]:
        """Writes a checkpoint; returns its arrays by name, without a replay that is large.

        Of a large replay only the changes since the last save are written, given its `ring`.
        """
        path, run_id = self.checkpoints / str(env_steps), meta.get("run_id")
        if path.exists() and self.owner(env_steps) not in (None, run_id):
            raise CheckpointError(f"{path} belongs to another run: move it away and resume.")
        meta, rows = meta | {"env_steps": env_steps}, tree.get(REPLAY, {})
        if sum(row.nbytes for row in rows.values()) > LARGE:
            tree = {name: part for name, part in tree.items() if name != REPLAY}
            arrays = self.save_in_pieces(path, tree, meta, rows, ring)
        else:
            arrays = checkpoint.save(path, tree, meta, apart=(REPLAY,))
        self.known[env_steps] = True
        return arrays

    def save_in_pieces(
        self, path: Path, tree: Any, meta: dict[str, Any], rows: dict[str, Any], ring: Ring | None
    ) -> dict[str, np.ndarray]:
        """Writes the rows' pieces, then the checkpoint that names them."""
        try:
            with checkpoint.writing(path):
                cuts = self.pieces.write(rows, ring)
                arrays = checkpoint.save(path, tree, meta | {REPLAY: cuts})
        except CheckpointError:
            self.sweep()
            raise
        self.pieces.saved(ring, cuts)
        return arrays

    def pick(self, run_id: str, which: str | int = "latest", replay: bool = True) -> Checkpoint:
        """The checkpoint called latest, best, or by its environment steps, with or without replay.

        The latest is the newest that is good. Raises CheckpointError, which lists what there is.
        """
        if which == "latest":
            return next(self.good(run_id, replay))
        return self.checked(self.step_of(which), run_id, replay)

    def newest(self, run_id: str) -> Checkpoint | None:
        """The newest good checkpoint; None where nothing is saved yet."""
        return next(self.good(run_id)) if self.saved() else None

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
        if isinstance(which, bool | np.bool_) or not str(which).isdecimal():
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
        return self.with_pieces(found) if replay and found.meta.get(REPLAY) else found

    def with_pieces(self, found: Checkpoint) -> Checkpoint:
        """A checkpoint with its replay; without, and a loud line, where that is damaged."""
        try:
            rows = self.pieces.read(found.meta[REPLAY])
        except DamagedCheckpoint as error:
            line = f"WARNING: the replay of {found.path} is damaged: {error}. Going on without it."
            print(line, file=sys.stderr)
            return found
        rows = {f"{REPLAY}/{name}": row for name, row in rows.items()}
        return dataclasses.replace(found, arrays=found.arrays | rows)

    def sweep(self) -> None:
        """Removes the pieces that no checkpoint names."""
        if self.pieces.path.is_dir():
            named = (files_of(self.meta(step).get(REPLAY)) for step in self.saved())
            self.pieces.keep(itertools.chain.from_iterable(named))

    def meta(self, env_steps: int) -> dict[str, Any]:
        """What a checkpoint says beside its arrays; nothing where it cannot be read."""
        try:
            return checkpoint.read_meta(self.checkpoints / str(env_steps))
        except CheckpointError:
            return {}

    def owner(self, env_steps: int) -> str | None:
        """The run that a checkpoint says it is of; None if it does not say."""
        meta = self.meta(env_steps)
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
        in_file = file.exists() and file.stat().st_size > LARGE  # as earlier versions wrote it
        if not in_file and not self.meta(newest).get(REPLAY):
            return
        for step in self.saved():
            if step == newest or self.owner(step) != run_id:
                continue
            path = checkpoint.standing(self.checkpoints / str(step))
            if (path / f"{REPLAY}.bin").exists():
                checkpoint.forget(path, REPLAY)
            if self.meta(step).get(REPLAY):
                checkpoint.amend(path, {REPLAY: None})


def check_owner(found: Checkpoint, env_steps: int, run_id: str | None) -> None:
    """Raises CheckpointError where a checkpoint is of another run or another step."""
    if found.meta.get("run_id") != run_id:
        raise CheckpointError(f"{found.path} belongs to another run.")
    if found.meta.get("env_steps") != env_steps:
        raise CheckpointError(f"{found.path} was saved under another name.")
