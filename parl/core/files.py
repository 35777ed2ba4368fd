"""Files that are written whole or not at all, and one sentence where that is impossible."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from parl.core.errors import ParlError

ELSEWHERE = "make room there, or choose another place"
RESUME = "earlier checkpoints are intact, make room and resume"


@contextlib.contextmanager
def writing(path: Path, cure: str = ELSEWHERE, kind: type[ParlError] = ParlError) -> Iterator[None]:
    """Turns an OSError, such as a full disk, into a ParlError that ends with what to do."""
    try:
        yield
    except OSError as error:
        raise kind(f"could not write {path}: {error.strerror or error}; {cure}.") from error


def sync(file: Any) -> None:
    """Flushes a file to the disk before the rename that publishes it."""
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A file to write that takes the place of `path` by one rename at the end of the block.

    `path` stays as it is if the block raises or the file cannot be written.
    """
    temporary = path.with_name(f".writing-{path.name}-{os.getpid()}")
    try:
        with temporary.open("w") as file:
            yield file
            sync(file)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, cure: str = ELSEWHERE) -> None:
    """Replaces a file. Raises ParlError where it cannot be written."""
    with writing(path, cure), replacing(path) as file:
        file.write(text)


def write_json(
    path: Path, content: dict[str, Any], indent: int | None = 1, cure: str = ELSEWHERE
) -> None:
    """Replaces a JSON file. Raises ParlError where it cannot be written."""
    write_text(path, json.dumps(content, indent=indent) + "\n", cure)


def make_directory(path: Path) -> Path:
    """Creates a directory and those above it, unless it exists. Raises ParlError."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path
