"""What Weights & Biases has on the disk of a run that it records offline.

It writes to the disk now and then, so that a process that is killed loses what it was given last.
A record is a file of blocks of 32 kB, in the log format of LevelDB, whose entries are protobuf.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parl.core.errors import MissingPackage

BLOCK, HEAD, START = 32_768, struct.Struct("<IHB"), 7  # bytes; checksum, length, kind of a piece
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def last_step(folder: Path) -> int:
    """The last step in the offline records below a folder; -1 where there is none.

    Raises an Exception of any kind where records cannot be read.
    """
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    steps = [step for file in files for step in steps_in(entries(file.read_bytes()))]
    return max(steps, default=-1)


def steps_in(found: Iterator[bytes]) -> Iterator[int]:
    """The steps of the lines of metrics among the entries of a record."""
    record = record_type()
    for entry in found:
        each = record.FromString(entry)
        if each.WhichOneof("record_type") == "history":
            yield each.history.step.num


def record_type() -> Any:
    """The package's type of an entry. Raises MissingPackage."""
    try:
        from wandb.proto.wandb_internal_pb2 import (  # pyright: ignore[reportMissingImports]
            Record,
        )
    except ImportError as error:
        raise MissingPackage("--log wandb needs wandb: pip install 'parl-jax[wandb]'") from error
    return Record


def entries(data: bytes) -> Iterator[bytes]:
    """The entries of a record, without one that was broken off."""
    place, begun = START, b""
    while place + HEAD.size <= len(data):
        left = BLOCK - place % BLOCK
        _, length, kind = HEAD.unpack_from(data, place)
        if left < HEAD.size or not kind:  # the rest of the block is empty
            place += left
            continue
        place += HEAD.size
        piece = data[place : place + length]
        if len(piece) < length:
            return
        place += length
        begun = piece if kind in (WHOLE, FIRST) else begun + piece
        if kind in (WHOLE, LAST):
            yield begun
