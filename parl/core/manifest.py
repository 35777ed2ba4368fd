"""Checks the manifest of a checkpoint before any memory is allocated."""

import math
import re
import stat
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import ml_dtypes
import numpy as np

from parl.core.errors import DamagedCheckpoint

ARRAYS = "arrays.bin"
LARGEST = 1 << 28  # bytes of a manifest
FILE = re.compile(r"[a-z]+\.bin")


class Entry(NamedTuple):
    """One array and its place in a file."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    file: str
    offset: int
    bytes: int
    sha256: str


def read_text(path: Path) -> bytes:
    """The bytes of a manifest. Raises OSError, or DamagedCheckpoint if it is not a manifest."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
        raise DamagedCheckpoint(f"{path} is not a manifest: {found.st_size:,} bytes.")
    return path.read_bytes()


def entries_of(manifest: dict[str, Any]) -> list[Entry]:
    """The entries of all arrays. Raises ValueError if the manifest is invalid."""
    if not isinstance(manifest["meta"], dict):
        raise ValueError("its meta is not an object")
    if not isinstance(manifest["arrays"], list):
        raise ValueError("its arrays are not a list")
    entries = [entry_of(values) for values in manifest["arrays"]]
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("two of its arrays have one name")
    reached: dict[str, int] = {}
    for entry in entries:
        if entry.offset != reached.get(entry.file, 0):
            raise ValueError(f"{entry.name!r} is not where the array before it ends")
        reached[entry.file] = entry.offset + entry.bytes
    return entries


def entry_of(values: Any) -> Entry:
    """The entry of one array. Raises ValueError."""
    if not isinstance(values, dict):
        raise ValueError(f"{values!r} is not an array's entry")
    keys = "name", "shape", "sha256", "offset", "bytes"
    name, shape, digest, offset, size = (values.get(key) for key in keys)
    file = values.get("file", ARRAYS)
    if not (isinstance(name, str) and isinstance(digest, str) and isinstance(file, str)):
        raise ValueError(f"the name, file or sha256 of {name!r} is not text")
    if not FILE.fullmatch(file):
        raise ValueError(f"{file!r} is not a file of a checkpoint")
    if not (isinstance(shape, list) and all(map(is_count, shape))):
        raise ValueError(f"{name!r} cannot have the shape {shape!r}")
    dtype = dtype_of(values.get("dtype"))
    if not (is_count(offset) and is_count(size) and size == math.prod(shape) * dtype.itemsize):
        raise ValueError(f"{name!r} of {size!r} bytes is no {dtype}{shape}")
    return Entry(name, dtype, tuple(shape), file, offset, size, digest)


def is_count(x: Any) -> TypeGuard[int]:
    """Whether x is a whole number that is not negative."""
    return isinstance(x, int) and not isinstance(x, bool) and x >= 0


def quantity(x: Any) -> float:
    """A finite number >= 0, such as seconds or steps. Raises ValueError for anything else."""
    if isinstance(x, bool) or not isinstance(x, int | float) or not 0 <= x < math.inf:
        raise ValueError(f"{x!r} is neither zero nor a positive number")
    return float(x)


def dtype_of(name: Any) -> np.dtype:
    """The numeric dtype of this name. Raises ValueError."""
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except TypeError:
        dtype = None
    if dtype is None or dtype.name != name or not is_number(dtype):
        raise ValueError(f"{name!r} is not a numeric dtype")
    return dtype


def is_number(dtype: np.dtype) -> bool:
    """Whether a dtype is numeric or bool, of numpy or of ml_dtypes."""
    return dtype.kind in "biufc" or getattr(ml_dtypes, dtype.name, None) is dtype.type


def check_sizes(path: Path, entries: list[Entry], room: int) -> None:
    """Raises DamagedCheckpoint if the files do not have the arrays' sizes or exceed `room`.

    `room` is the number of bytes that may be read. It is compared with the length of a file, since
    a sparse one takes little disk but all of that memory.
    """
    wanted = {ARRAYS: 0}
    for entry in entries:
        wanted[entry.file] = wanted.get(entry.file, 0) + entry.bytes
    for file, size in wanted.items():
        found = (path / file).stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            raise DamagedCheckpoint(f"{path} is corrupt: {file} does not have its full length.")
    total = sum(wanted.values())
    if total > room:
        raise DamagedCheckpoint(
            f"{path} holds {total / 1e9:,.1f} GB, but {room / 1e9:,.1f} GB of memory are free."
        )
