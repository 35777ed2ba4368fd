"""Opens data sets: our own, Minari's and Gymnasium-Robotics', and D4RL-style files."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from parl.core.errors import DataError
from parl.core.spec import Box, Discrete, EnvSpec
from parl.datasets import hdf5
from parl.datasets.card import CARD, DATA, Card, read_card
from parl.datasets.episode import Episode
from parl.datasets.flat import is_flat, read_flat
from parl.datasets.writer import MAIN

KINDS = (".hdf5", ".h5")


@dataclass(frozen=True)
class DataSet:
    """Episodes on disk, read one after the other."""

    path: Path
    files: tuple[Path, ...]
    card: Card

    def episodes(self, stop: int | None = None) -> Iterator[Episode]:
        """All episodes in order, or the first `stop`. Raises DataError where one is damaged."""
        yield from islice(self.each(), stop)

    def each(self) -> Iterator[Episode]:
        """All episodes in order."""
        for path in self.files:
            with hdf5.opened(path) as file:
                if is_flat(file):
                    yield from read_flat(file, str(path))
                    continue
                numbers = hdf5.numbers_in(file)
                if not numbers:
                    raise DataError(f"{path} holds no episodes.")
                for index in numbers:
                    name = hdf5.name_of(index)
                    yield hdf5.read(file[name], f"{path}, {name},")

    def most_steps(self) -> int:
        """The number of steps, or where only reading tells it, a bound of it."""
        if self.card.shards:
            return self.card.steps
        count = 0
        for path in self.files:
            with hdf5.opened(path) as file:
                if is_flat(file):
                    count += hdf5.length_of(file, str(path))
                    continue
                for index in hdf5.numbers_in(file):
                    count += hdf5.length_of(file[hdf5.name_of(index)], str(path))
        return count

    def returns(self) -> tuple[float, float]:
        """(the smallest return of an episode, the largest)."""
        told = self.card.returns
        if told:
            return told["min"], told["max"]
        totals = [episode.total for episode in self.episodes()]
        return (min(totals), max(totals)) if totals else (0.0, 0.0)

    def sha256(self) -> str:
        """The identity of the data, computed from the files.

        Raises DataError if they are not what the card says.
        """
        if not self.card.shards:
            whole = hashlib.sha256()
            for path in self.files:
                whole.update(digest(path).encode())
            return whole.hexdigest()
        for path, shard in zip(self.files, self.card.shards, strict=True):
            if digest(path) != shard.sha256:
                raise DataError(
                    f"{path} is damaged: it is not the file that {CARD} was written for; record "
                    "it anew, or take a copy that is whole."
                )
        return self.card.sha256

    def spec(self) -> EnvSpec:
        """The environment's spec; a guess from the first episode where the card has none."""
        known = self.card.env_spec(self.path / CARD)
        return (
            guessed(self.first(), self.card.environment or self.path.name)
            if known is None
            else known
        )

    def first(self) -> Episode:
        """The first episode. Raises DataError if there is none."""
        for episode in self.episodes(1):
            return episode
        raise DataError(f"{self.path} holds no episodes.")


def open_data(path: str | Path) -> DataSet:
    """The data set in a directory or file. Raises DataError if it is none or not complete."""
    path = Path(path)
    hdf5.package()
    if path.is_file():
        return DataSet(path, (path,), Card())
    if not path.is_dir():
        raise DataError(
            f"{path} does not exist: give the directory of a data set, or an HDF5 file."
        )
    card = read_card(path)
    if card is None:
        return foreign(path)
    if not card.complete:
        raise DataError(
            f"{path} is still being written, or its recording was broken off: wait for its end, or "
            "give the command that began it once more."
        )
    files = tuple(path / DATA / shard.file for shard in card.shards)
    if missing := [file for file in files if not file.exists()]:
        raise DataError(f"{path} is damaged: {missing[0]} is not there.")
    return DataSet(path, files, card)


def foreign(path: Path) -> DataSet:
    """A data set without our card: Minari's layout, or a folder with one file."""
    for folder in (path / DATA, path):
        if (folder / MAIN).exists():
            return DataSet(path, (folder / MAIN,), card_of(folder))
    found = sorted(file for file in path.iterdir() if file.suffix in KINDS)
    if len(found) == 1:
        return DataSet(path, tuple(found), Card())
    more = f"{len(found)} HDF5 files, of which it cannot be told which is meant" if found else ""
    raise DataError(
        f"{path} is no data set: it holds {more or f'neither {CARD} nor {DATA}/{MAIN}'}."
    )


def card_of(folder: Path) -> Card:
    """What Minari's metadata tell; nothing where there are none."""
    try:
        told = json.loads((folder / "metadata.json").read_text())
        env = json.loads(told["env_spec"])["id"] if told.get("env_spec") else ""
        return Card(environment=str(env), episodes=int(told.get("total_episodes", 0)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Card()


def digest(path: Path) -> str:
    """The sha256 of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def guessed(episode: Episode, name: str) -> EnvSpec:
    """A spec for the arrays of an episode: actions that are integers are choices."""
    actions = episode.actions
    if actions.dtype.kind in "iu" and actions.ndim == 1:
        raise DataError(
            f"{name} does not say how many actions there are: give its environment, --env ID."
        )
    if actions.ndim != 2 or actions.dtype.kind != "f":
        raise DataError(
            f"{name} does not say what its actions of shape {actions.shape[1:]} are: give its "
            "environment, --env ID."
        )
    return EnvSpec(name, space_of(episode.observations), Box(actions.shape[1:], low=-1.0, high=1.0))


def space_of(tree: Any) -> Any:
    """The space of observations."""
    if isinstance(tree, dict):
        return {name: space_of(part) for name, part in tree.items()}
    if tree.dtype.kind in "iu" and tree.ndim == 1:
        return Discrete(int(tree.max()) + 1)
    return Box(tree.shape[1:], "uint8" if tree.dtype == np.uint8 else "float32")
