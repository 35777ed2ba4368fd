"""Temporary directories that are removed when their process ends or after it was killed."""

import atexit
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from parl.core.locks import Held, Lock

YOUNG_S = 60.0  # a younger directory without a lock may still be in creation


def scratch(prefix: str) -> Path:
    """Creates a directory for this process; removes those of dead processes with this prefix."""
    for path in abandoned(prefix):
        shutil.rmtree(path, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=prefix))
    lock = Lock(path / ".lock")
    atexit.register(lock.close)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def abandoned(prefix: str) -> Iterator[Path]:
    """Directories of this user under a prefix whose processes have ended."""
    for path in list(Path(tempfile.gettempdir()).glob(f"{prefix}*")):
        with contextlib.suppress(OSError, Held):
            found = path.lstat()
            if not path.is_dir() or path.is_symlink() or found.st_uid != os.getuid():
                continue
            lock = path / ".lock"
            if lock.exists() or time.time() - found.st_mtime > YOUNG_S:
                Lock(lock).close()
                yield path
