"""Large arrays in pieces: files of one directory, each named by the sha256 of its content.

Arrays [*lead, N, D] are cut along N. Saving a ring of rows again writes only the pieces that its
cursor has passed since the last save; the others are shared.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from parl.core.checkpoint import NONSENSE, sha256, to_numpy
from parl.core.errors import DamagedCheckpoint
from parl.core.files import sync
from parl.core.manifest import dtype_of, is_count
from parl.core.memory import available_memory

SIZE = 1 << 23  # bytes of a piece, or of a row where that is longer
NAME = re.compile(r"([0-9a-f]{64})\.bin|\.[0-9a-f]{64}\.writing")


class Ring(NamedTuple):
    """The position of a ring of rows."""

    cursor: int  # the row that is written next
    written: int | None  # rows written so far, from any start; None: rows may also change elsewhere


class Cut(NamedTuple):
    """One array and the pieces it lies in."""

    dtype: str
    shape: tuple[int, ...]  # [*lead, N, D]
    rows: int  # of N in each piece except the last
    files: list[str]  # sha256 of each

    def begins(self) -> range:
        """The first row of each piece."""
        return range(0, self.shape[-2], self.rows)

    def part_shape(self, begin: int) -> tuple[int, ...]:
        """Shape of the piece that begins at this row."""
        *lead, size, width = self.shape
        return (*lead, min(self.rows, size - begin), width)

    def bytes(self, begin: int) -> int:
        """Size in bytes of the piece that begins at this row."""
        return math.prod(self.part_shape(begin)) * dtype_of(self.dtype).itemsize


class Pieces:
    """The pieces of one directory, which only one process writes."""

    def __init__(self, path: Path):
        self.path = path
        self.ours: set[str] = set()  # written by this process
        self.last: tuple[Ring, dict[str, Cut]] | None = None  # of the last save

    def write(self, arrays: dict[str, Any], ring: Ring | None) -> dict[str, Cut]:
        """Writes the pieces that do not exist yet; the arrays are rings at the position `ring`.

        The caller calls `saved` once its own file that refers to them is written. Raises OSError.
        """
        self.path.mkdir(mode=0o700, exist_ok=True)
        before, cuts = self.last or (None, {})
        return {
            name: self.write_array(array, cuts.get(name), before, ring)
            for name, array in arrays.items()
        }

    def write_array(
        self, array: Any, old: Cut | None, before: Ring | None, now: Ring | None
    ) -> Cut:
        """Writes one array, reusing the unchanged pieces of `old`."""
        *lead, size, width = array.shape
        rows = max(1, SIZE // max(1, math.prod(lead) * width * array.dtype.itemsize))
        cut = Cut(array.dtype.name, tuple(array.shape), rows, [])
        if old is None or (old.dtype, old.rows, old.shape[-1]) != (cut.dtype, rows, width):
            old = cut  # which has no pieces yet
        changes = changed(before, now, size)
        for number, begin in enumerate(cut.begins()):
            same = number < len(old.files) and not any(
                start < begin + rows and begin < end for start, end in changes
            )
            if same and self.has(old.files[number], cut.bytes(begin)):
                cut.files.append(old.files[number])
            else:
                cut.files.append(self.write_piece(part(array, begin, cut.part_shape(begin)[-2])))
        return cut

    def write_piece(self, array: np.ndarray) -> str:
        """Writes a piece by one rename, unless this process already did; returns its digest."""
        data = array.reshape(-1).view(np.uint8).data
        digest = sha256(data)
        if digest in self.ours and self.has(digest, len(data)):
            return digest
        temporary = self.path / f".{digest}.writing"
        with open(temporary, "wb", opener=private) as file:
            file.write(data)
            sync(file)
        temporary.replace(self.file(digest))
        self.ours.add(digest)
        return digest

    def saved(self, ring: Ring | None, cuts: dict[str, Cut]) -> None:
        """Records the save that the next `write` is compared with."""
        self.last = (ring, cuts) if ring is not None else None

    def read(self, values: Any) -> dict[str, np.ndarray]:
        """Reads and verifies the arrays that `write` described, in JSON.

        Raises DamagedCheckpoint.
        """
        try:
            cuts = {name: cut_of(x) for name, x in values.items()}
            total = sum(cut.bytes(begin) for cut in cuts.values() for begin in cut.begins())
            if total > (room := available_memory()):
                raise ValueError(f"{total / 1e9:,.1f} GB, but {room / 1e9:,.1f} GB are free")
            for cut in cuts.values():
                for digest, begin in zip(cut.files, cut.begins(), strict=True):
                    if not self.has(digest, cut.bytes(begin)):
                        raise ValueError(f"{self.file(digest)} is not there in its full length")
            return {name: self.read_array(cut) for name, cut in cuts.items()}
        except (OSError, *NONSENSE) as error:
            raise DamagedCheckpoint(str(error)) from error

    def read_array(self, cut: Cut) -> np.ndarray:
        """Reads one array. Raises ValueError if a piece is corrupt."""
        array = np.empty(cut.shape, dtype_of(cut.dtype))
        for digest, begin in zip(cut.files, cut.begins(), strict=True):
            data = np.fromfile(self.file(digest), np.uint8)
            if sha256(data.data) != digest:
                raise ValueError(f"{self.file(digest)} fails its sha256")
            piece = data.view(array.dtype).reshape(cut.part_shape(begin))
            array[..., begin : begin + piece.shape[-2], :] = piece
        return array

    def keep(self, digests: Iterable[str]) -> None:
        """Removes all pieces except these and those of the last save, ignoring errors."""
        if not self.path.is_dir():
            return
        last = self.last[1].values() if self.last else ()
        kept = {*digests, *(digest for cut in last for digest in cut.files)}
        for file in list(self.path.iterdir()):
            if (match := NAME.fullmatch(file.name)) and match[1] not in kept:
                with contextlib.suppress(OSError):
                    file.unlink()
        with contextlib.suppress(OSError):
            self.path.rmdir()  # where it is empty

    def file(self, digest: str) -> Path:
        """The path of a piece."""
        return self.path / f"{digest}.bin"

    def has(self, digest: str, size: int) -> bool:
        """Whether a piece of `size` bytes exists."""
        file = self.file(digest)
        return file.is_file() and file.stat().st_size == size


def changed(before: Ring | None, now: Ring | None, size: int) -> list[tuple[int, int]]:
    """The ranges of a ring's `size` rows written between two positions; all rows if unknown."""
    whole = [(0, size)]
    if before is None or now is None or before.written is None or now.written is None:
        return whole
    count = now.written - before.written
    if not 0 <= count < size or (before.cursor + count - now.cursor) % size:
        return whole
    start = now.cursor - count
    ranges = [(max(start, 0), now.cursor), (size + min(start, 0), size)]
    return [(begin, end) for begin, end in ranges if begin < end]


def part(array: Any, begin: int, count: int) -> np.ndarray:
    """Rows of an array [*lead, N, D] in host memory."""
    if isinstance(array, jax.Array):  # one program for all parts, unlike with array[begin:end]
        return to_numpy(jax.lax.dynamic_slice_in_dim(array, begin, count, axis=-2))
    return to_numpy(array[..., begin : begin + count, :])


def cut_of(values: Any) -> Cut:
    """Reads the description of an array from JSON. Raises an error of NONSENSE."""
    dtype, shape, rows, files = values
    dtype_of(dtype)
    if not (len(shape) >= 2 and all(map(is_count, shape)) and is_count(rows) and rows > 0):
        raise ValueError(f"there are no {rows!r} rows of {shape!r}")
    cut = Cut(dtype, tuple(shape), rows, files)
    if not all(NAME.fullmatch(f"{digest}.bin") for digest in files):
        raise ValueError("there is a piece that is called by no sha256")
    if len(files) != len(cut.begins()):
        raise ValueError(f"{len(files)} pieces of {rows} rows are no {shape!r}")
    return cut


def files_of(values: Any) -> set[str]:
    """The pieces named in a description of arrays; none if it is invalid."""
    try:
        return {digest for x in values.values() for digest in cut_of(x).files}
    except NONSENSE:
        return set()


def private(path: str, flags: int) -> int:
    """Opens a file that only its owner may read."""
    return os.open(path, flags, 0o600)
