"""A Ray cluster by hand: what `parl cluster start | join | status | stop` do.

A node is one `ray start --block` in a session of its own; Ray's other processes on the machine are
its children and end with it. The nodes started here are noted in a file of the user, and only what
is noted there is ever stopped: `ray stop` would end everybody's Ray on the machine.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil  # Ray brings one and makes it importable

from parl.core.errors import ConfigError, RemoteError
from parl.remote.connect import (
    LOOPBACK,
    check_answers,
    check_private,
    token_authentication,
    use_token,
)
from parl.remote.occupants import Machine, Occupant, look
from parl.remote.token import protect_token, supported

PATIENCE = 60.0  # seconds that a node may take to come up
GRACE = 10.0  # seconds that its processes have to end
READY = "Ray runtime started"  # what `ray start` says when the node is up


class Node(NamedTuple):
    """A node that was started here."""

    pid: int  # of `ray start --block`, which all its other processes descend from
    created: float  # when that process began: a process id alone may be another's by now
    address: str  # host:port of the cluster


def start(host: str = "127.0.0.1", port: int = 6379, num_cpus: int | None = None) -> Node:
    """Starts a cluster with this machine as its first node.

    On loopback only this machine reaches it. Raises ConfigError for another `host` without token
    authentication, and where host or port cannot be had.
    """
    host = "127.0.0.1" if host in LOOPBACK else host
    loopback = host in LOOPBACK
    if nodes := running():
        raise ConfigError(
            f"a node of the cluster at {nodes[0].address} runs here already; "
            "`parl cluster stop` ends it."
        )
    if not loopback and not token_authentication():
        raise ConfigError(
            f"--host {host} lets whoever reaches this machine run code on it; set "
            "RAY_AUTH_MODE=token, and make a token with `ray get-auth-token --generate`."
        )
    check_free(host, port)
    protect_token(make=loopback)
    options = ["--head", f"--node-ip-address={host}", f"--port={port}", "--include-dashboard=false"]
    return launch(options, f"{host}:{port}", num_cpus, loopback)


def join(address: str, num_cpus: int | None = None) -> Node:
    """Makes this machine a node of the cluster at host:port.

    Raises ConfigError for a cluster on loopback, which has room for its own machine only, and for
    one without token authentication; RemoteError where none answers.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"join needs the cluster's host:port, not '{address}'.")
    if host in LOOPBACK:
        raise ConfigError(
            f"a cluster at {host} is this machine's own, which is a node of it already; "
            "for several machines begin with `parl cluster start --host ADDRESS`."
        )
    check_private(address)
    check_answers(f"{host}:{port}")
    protect_token(make=False)
    return launch([f"--address={address}"], address, num_cpus, loopback=False)


def status() -> tuple[str, tuple[list[Machine], list[Occupant]] | str]:
    """host:port of the cluster that this machine is in; its nodes and who holds them.

    What Ray itself says of it, where that cannot be told.
    """
    nodes = running()
    if not nodes:
        raise RemoteError("no cluster started by `parl cluster` runs here.")
    address = nodes[0].address
    if address.rpartition(":")[0] in LOOPBACK:
        use_token(address)
    try:
        return address, look(address)
    except Exception:  # of whatever in Ray has changed
        return address, ray_status(address)


def ray_status(address: str) -> str:
    """What `ray status` says."""
    done = subprocess.run(
        ray("status", f"--address={address}"),
        env=environment(address.rpartition(":")[0] in LOOPBACK),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RemoteError(f"the cluster at {address} does not answer: {last(done.stderr)}")
    return done.stdout.strip()


def stop() -> list[Node]:
    """Ends the nodes that were started here, and nothing else; returns them."""
    nodes = running()
    if not nodes:
        raise RemoteError("no cluster started by `parl cluster` runs here.")
    for node in reversed(nodes):  # the first one may be what the others are nodes of
        end(node)
    note([])
    return nodes


def launch(options: list[str], address: str, num_cpus: int | None, loopback: bool) -> Node:
    """Runs `ray start` until it says that the node is up."""
    if num_cpus is not None:
        options = [*options, f"--num-cpus={num_cpus}"]
    command = ray("start", "--block", "--disable-usage-stats", *options)
    log = state_file().with_suffix(".log")
    with open_private(log) as output:
        process = subprocess.Popen(
            command,
            env=environment(loopback),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    node = Node(process.pid, psutil.Process(process.pid).create_time(), address)
    give_up = time.monotonic() + PATIENCE
    while READY not in log.read_text():
        if process.poll() is not None or time.monotonic() > give_up:
            end(node)
            raise RemoteError(f"Ray did not start: {last(log.read_text())} (all of it: {log}).")
        time.sleep(0.1)
    note([*running(), node])
    return node


def end(node: Node) -> None:
    """Ends a node with all its processes."""
    try:
        process = psutil.Process(node.pid)
        family = [process, *process.children(recursive=True)]
        process.terminate()
    except psutil.NoSuchProcess:
        return
    _, left = psutil.wait_procs(family, GRACE)
    for process in left:
        process.kill()  # psutil does so only if the process id is still that process
    psutil.wait_procs(left, GRACE)


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


def ray(*arguments: str) -> list[str]:
    """The command line of this interpreter's Ray."""
    return [sys.executable, "-m", "ray.scripts.scripts", *arguments]


def environment(loopback: bool) -> dict[str, str]:
    """What Ray's processes inherit.

    Token authentication is on unless told otherwise: other users reach loopback, too.
    """
    return os.environ | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE")
        or ("token" if supported() else "disabled"),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": str(int(not loopback)),  # 0: it keeps to 127.0.0.1
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }


def check_free(host: str, port: int) -> None:
    """Raises ConfigError where no server can listen at host:port."""
    if host in ("0.0.0.0", "::"):
        raise ConfigError(f"--host takes the address that other machines call, not {host}.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host, port))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen at {host}:{port}: {error}; choose another.") from error


def last(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it said nothing"
