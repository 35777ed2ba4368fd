"""Writes data sets: shards of episodes, each there as a whole or not at all."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from parl.core.errors import ConfigError, DataError
from parl.core.locks import Held, Lock
from parl.datasets import hdf5
from parl.datasets.card import (
    CARD,
    DATA,
    Card,
    Shard,
    metadata,
    read_card,
    write_card,
    write_text,
)
from parl.datasets.episode import Episode

MAIN = "main_data.hdf5"
SHARD_STEPS = 100_000  # of one file, roughly
SAME = ("environment", "spec", "policy")  # what a writer that goes on must agree with


class Writer:
    """Writes one data set; a context, at whose end in good order it is complete.

    A directory in which a writer of the same card was broken off is continued: `card` tells which
    shards are there; with `reopens` a complete one is, too. Raises ConfigError where something else
    is in the way.
    """

    def __init__(self, root: Path, card: Card, reopens: bool = False):
        hdf5.package()
        self.reopens = reopens
        self.root, self.files = root, root / DATA
        with explained(root):
            self.files.mkdir(parents=True, exist_ok=True)
            try:
                self.lock = Lock(root / ".lock")
                self.lock.write({})
            except Held as error:
                raise ConfigError(f"{root} is being written by {error}; choose another.") from error
        try:
            self.card = self.begun(card)
            self.waiting: list[Episode] = []
            with explained(root):
                write_card(root, self.card)
        except BaseException:
            self.lock.close()
            raise

    def begun(self, card: Card) -> Card:
        """The card to go on from: that of a broken off writer, or `card`."""
        found = read_card(self.root)
        if found is None:
            if odd := [p.name for p in self.files.iterdir() if not p.name.startswith(".writing-")]:
                raise ConfigError(
                    f"{self.root} holds {DATA}/{odd[0]}, which is not of a data set that can be "
                    "continued; choose another directory."
                )
            return card
        if found.complete and not self.reopens:
            raise ConfigError(f"{self.root} already holds a data set; choose another directory.")
        told = lambda each: json.dumps([getattr(each, name) for name in SAME], sort_keys=True)
        if told(found) != told(card):
            raise ConfigError(
                f"{self.root} holds the beginning of another data set, of {found.environment} by "
                f"{found.policy.get('run', 'another policy')}; choose another directory."
            )
        return dataclasses.replace(found, complete=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.lock.close()

    def add(self, episodes: Sequence[Episode]) -> None:
        """Takes episodes, which the next `flush` writes."""
        self.waiting += episodes

    @property
    def waiting_steps(self) -> int:
        """Steps that are not on the disk yet."""
        return sum(each.size for each in self.waiting)

    def flush(self, until: int = 0) -> None:
        """Writes the episodes taken so far as one shard, if there are any.

        `until` is the environment step of the run that collected them.
        """
        if not self.waiting:
            return
        episodes, self.waiting = self.waiting, []
        name = f"shard_{len(self.card.shards):05d}.hdf5"
        temporary = self.files / f".writing-{name}"
        with explained(self.root):
            hdf5.write(temporary, episodes, self.card.episodes)
            with temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            temporary.replace(self.files / name)
            steps = sum(each.size for each in episodes)
            ended = [each.total for each in episodes if each.terminated[-1] or each.truncated[-1]]
            shard = Shard(name, len(episodes), steps, digest, until)
            self.card = self.card.with_shard(shard, ended)
            write_card(self.root, self.card)

    def forget_after(self, until: int) -> None:
        """Drops the shards that were collected after an environment step."""
        kept = [shard for shard in self.card.shards if shard.until <= until]
        dropped = self.card.shards[len(kept) :]
        if not dropped:
            return
        card = dataclasses.replace(self.card, shards=(), episodes=0, steps=0, returns={})
        for shard in kept:
            with hdf5.opened(self.files / shard.file) as file:
                episodes = [hdf5.read(file[name], shard.file) for name in file]
            ended = [each.total for each in episodes if each.terminated[-1] or each.truncated[-1]]
            card = card.with_shard(shard, ended)
        self.card = card
        write_card(self.root, card)
        for shard in dropped:
            (self.files / shard.file).unlink(missing_ok=True)

    def finish(self) -> None:
        """Writes what is waiting and what Minari reads, then says that the data set is complete."""
        self.flush()
        if not self.card.shards:
            raise DataError(f"{self.root} got no episode: nothing was recorded.")
        links, first = [], 0
        for shard in self.card.shards:
            links.append((shard.file, first, shard.episodes))
            first += shard.episodes
        with explained(self.root):
            temporary = self.files / f".writing-{MAIN}"
            hdf5.write_links(temporary, links)
            temporary.replace(self.files / MAIN)
            told = json.dumps(metadata(self.card, self.root.name))
            write_text(self.files / "metadata.json", told)
            self.card = dataclasses.replace(self.card, complete=True)
            write_card(self.root, self.card)


@contextlib.contextmanager
def explained(root: Path) -> Any:
    """Turns errors of the file system into a DataError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"could not write {root / CARD} or its files: {reason}; what is there stays, make room "
            "and record into it again."
        ) from error
