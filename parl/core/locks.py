"""A lock on a file that ends with the process that holds it, however that process ends."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from parl.core.errors import ParlError

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl: Any = None

held: set[int] = set()  # file descriptors of this process's locks


class Held(ParlError):
    """Another process, or another part of this one, holds the lock."""


class Lock:
    """Holds the lock of the file `path`, which is made if needed, until `close`.

    Children do not inherit it. Raises Held where it is held, with who holds it, and OSError where
    the file cannot be written. On a file system without locks a word on stderr says so, and nothing
    is held.
    """

    def __init__(self, path: Path):
        self.fd = take(path)
        held.add(self.fd)

    def write(self, about: dict[str, Any]) -> None:
        """Replaces what the file says, with this process and its host."""
        content = about | {"process": os.getpid(), "host": socket.gethostname()}
        os.truncate(self.fd, 0)
        os.pwrite(self.fd, (json.dumps(content) + "\n").encode(), 0)

    def close(self) -> None:
        """Lets go."""
        if self.fd in held:
            held.discard(self.fd)
            os.close(self.fd)


def take(path: Path) -> int:
    """The descriptor of the locked file, which is the one at `path` now."""
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
        os.close(fd)  # whoever held it removed the file meanwhile


def same_file(fd: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


def read_lock(path: Path) -> dict[str, Any]:
    """What the last holder wrote into a lock file; empty where there is nothing to read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def whose(path: Path) -> str:
    """Who holds a lock, for people."""
    content = read_lock(path)
    if content.get("process") == os.getpid():
        return "this process"
    return f"process {content.get('process', 'unknown')} on {content.get('host', 'this machine')}"


def let_go_in_child() -> None:
    """A forked child has its parent's locks open: it closes them, and the parent keeps them."""
    for fd in held:
        os.close(fd)
    held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=let_go_in_child)
