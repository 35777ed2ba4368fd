"""The nodes that `parl cluster` started on this machine, noted in a file of the user.

Only what is noted there is ever stopped: `ray stop` would end everybody's Ray on the machine.
"""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil  # Ray brings one and makes it importable

from parl.core.errors import ConfigError

GRACE = 10.0  # seconds that processes have to end


class Node(NamedTuple):
    """A node that was started here."""

    pid: int  # of the process that leads the node's session, or of the one that keeps it
    created: float  # when that process began: a process id alone may be another's by now
    address: str  # host:port of the cluster


def node_of(pid: int, address: str) -> Node:
    """The node that a running process leads."""
    return Node(pid, psutil.Process(pid).create_time(), address)


def family(pid: int) -> list[psutil.Process]:
    """A process, its descendants, and what else runs in the session that it leads."""
    found: dict[int, psutil.Process] = {}
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        found = {process.pid: process for process in (first, *first.children(recursive=True))}
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if process.pid not in found and os.getsid(process.pid) == pid:
                found[process.pid] = process
    return list(found.values())


def end(node: Node) -> None:
    """Ends a node with all its processes."""
    if is_running(node):
        members = family(node.pid)
        with suppress(psutil.NoSuchProcess):
            members[0].terminate()
        kill(psutil.wait_procs(members, GRACE)[1])


def kill(processes: list[psutil.Process]) -> None:
    """Kills processes and waits for their end."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()  # psutil does so only if the process id is still that process
    psutil.wait_procs(processes, GRACE)


def running() -> list[Node]:
    """The nodes that were started here and still run."""
    try:
        noted = [Node(*entry) for entry in json.loads(state_file().read_text())]
        return [node for node in noted if is_running(node)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"cannot read {state_file()} ({error}); remove it.") from error


def is_running(node: Node) -> bool:
    """Whether the process is there, and is the one that was started."""
    try:
        process = psutil.Process(node.pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return not ended and abs(process.create_time() - node.created) < 0.1
    except psutil.NoSuchProcess:
        return False


def note(nodes: list[Node]) -> None:
    """Writes down which nodes run here."""
    with open_private(state_file()) as file:
        json.dump(nodes, file)


def state_file() -> Path:
    """Where this user's nodes on this machine are noted; homes may be shared by machines."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "parl" / f"cluster-{socket.gethostname()}.json"


def open_private(path: Path):
    """A file for writing that only this user can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
