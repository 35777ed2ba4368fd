"""Files that go along to the workers of a cluster, as `parl.connect(distributed_files=)` names."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from parl.core.errors import ConfigError
from parl.core.scratch import scratch

LARGEST = 100 * 2**20  # bytes in all: every node gets them through the first one's memory


def staged(patterns: Sequence[str]) -> Path:
    """A directory with copies of the files that are meant, at their places below this one.

    A pattern is a file, a folder, or a glob such as 'maps/*.npy', in the current directory. Raises
    ConfigError where one leads out of it or to nothing, and where the files are too big.
    """
    if isinstance(patterns, str):
        raise ConfigError(f"distributed_files is a list of files, such as ['{patterns}'].")
    found = sorted({file for pattern in patterns for file in matches(str(pattern))})
    size = sum(file.stat().st_size for file in found)
    if size > LARGEST:
        raise ConfigError(
            f"distributed_files are {size / 2**20:.0f} MiB, and up to {LARGEST // 2**20} are sent; "
            "put larger ones where all machines find them, under the same path."
        )
    place = scratch("parl-files-") / "files"
    place.mkdir()
    for file in found:
        copy = place / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    return place


def matches(pattern: str) -> list[Path]:
    """The files that a pattern means, relative to the current directory."""
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise ConfigError(
            f"distributed_files are below the current directory, which '{pattern}' is not; they "
            "have the same relative paths where workers run."
        )
    if not Path(pattern).parts:
        raise ConfigError("distributed_files names files or folders, not '.'; '*' are all.")
    top = list(Path().glob(pattern))
    found = [file for one in top for file in ([one] if one.is_file() else one.rglob("*"))]
    if not (files := [file for file in found if file.is_file()]):
        raise ConfigError(f"distributed_files: there is no '{pattern}' in {Path.cwd()}.")
    return files
