"""A file lock that is released when its process ends, in whatever way."""

import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from parl.core.errors import ParlError

try:
    import fcntl
except ImportError:  # this system has no such locks
    fcntl: Any = None

held: set[int] = set()  # file descriptors of this process's locks


class Held(ParlError):
    """Another process, or another part of this one, holds the lock."""


class Lock:
    """Holds the lock of the file `path`, created if needed, until `close`.

    Child processes do not inherit it. Raises Held, which names the holder, if it is already held,
    and OSError if the file cannot be written. On a file system without locks it prints a warning to
    stderr and locks nothing.
    """

    def __init__(self, path: Path):
        self.fd = take(path)
        held.add(self.fd)

    def write(self, about: dict[str, Any]) -> None:
        """Replaces the file's content with `about`, this process and its host."""
        content = about | {"process": os.getpid(), "host": socket.gethostname()}
        os.truncate(self.fd, 0)
        os.pwrite(self.fd, (json.dumps(content) + "\n").encode(), 0)

    def close(self) -> None:
        """Releases the lock."""
        if self.fd in held:
            held.discard(self.fd)
            os.close(self.fd)


def take(path: Path) -> int:
    """Locks the file at `path` and returns its descriptor."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise Held(whose(path)) from error
        except OSError as error:
            print(
                f"WARNING: {path.parent} is on a file system without locks ({error.strerror}): "
                "take care that only one process trains there.",
                file=sys.stderr,
            )
            return fd
        if same_file(fd, path):
            return fd
        os.close(fd)  # its last holder has removed the file meanwhile


def is_locked(path: Path) -> bool:
    """Whether a process of this machine holds the lock of a file."""
    holder = read_lock(path).get("process")
    if fcntl is None or not isinstance(holder, int) or not Path(f"/proc/{holder}").exists():
        return False  # asking for a lock that nobody holds would take it for a moment
    with contextlib.suppress(OSError), path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def same_file(fd: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


def read_lock(path: Path) -> dict[str, Any]:
    """What the last holder wrote into a lock file; empty if it cannot be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def whose(path: Path) -> str:
    """The holder of a lock, as text for an error message."""
    content = read_lock(path)
    if content.get("process") == os.getpid():
        return "this process"
    return f"process {content.get('process', 'unknown')} on {content.get('host', 'this machine')}"


def let_go_in_child() -> None:
    """Closes the parent's locks in a forked child; the parent keeps them."""
    for fd in held:
        os.close(fd)
    held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=let_go_in_child)
