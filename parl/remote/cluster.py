"""A Ray cluster by hand: what `parl cluster start | join | status | stop` do.

A node is one `ray start --block` in a session of its own; Ray's other processes on the machine are
its children and end with it. What is noted in `nodes` is stopped, and nothing else.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from parl.core.errors import ConfigError, RemoteError
from parl.remote.connect import (
    LOOPBACK,
    check_answers,
    check_private,
    token_authentication,
    use_token,
)
from parl.remote.nodes import (
    Node,
    end,
    family,
    kill,
    node_of,
    note,
    open_private,
    running,
    state_file,
)
from parl.remote.occupants import Machine, Occupant, look
from parl.remote.temporary import temporary
from parl.remote.token import protect_token, supported
from parl.report.prometheus import HOST, check_package

PATIENCE = 60.0  # seconds that a node may take to come up
READY = "Ray runtime started"  # what `ray start` says when the node is up


def start(
    host: str = "127.0.0.1",
    port: int = 6379,
    num_cpus: int | None = None,
    metrics_port: int | None = None,
) -> Node:
    """Starts a cluster with this machine as its first node.

    On loopback only this machine reaches it. With `metrics_port` the runs on it are told to
    Prometheus there, see watched.py. Raises ConfigError for another `host` without token
    authentication, and where host or a port cannot be had; MissingPackage.
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
    address, around = f"{host}:{port}", []
    if metrics_port is not None:
        check_package()
        check_free(HOST, metrics_port)
        if metrics_port == port:
            raise ConfigError(f"--port and --metrics-port are both {port}; choose another.")
        around = [sys.executable, "-m", "parl.remote.watched", str(metrics_port), address]
    protect_token(make=loopback)
    options = ["--head", f"--node-ip-address={host}", f"--port={port}", "--include-dashboard=false"]
    return noted(launch(options, num_cpus, loopback, around), address)


def join(address: str, num_cpus: int | None = None) -> Node:
    """Makes this machine a node of the cluster at host:port.

    Raises ConfigError for a cluster on loopback, which has room for its own machine only, and for
    one without token authentication; RemoteError where none answers.
    """
    check_joins(address)
    check_answers(address)
    return noted(launch(join_options(address), num_cpus, False, guarded(address)), address)


def check_joins(address: str) -> None:
    """Raises ConfigError where no other machine can join a cluster at this address."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"join needs the cluster's host:port, not '{address}'.")
    if host in LOOPBACK:
        raise ConfigError(
            f"a cluster at {host} is this machine's own, which is a node of it already; "
            "for several machines begin with `parl cluster start --host ADDRESS`."
        )
    check_private(address)
    protect_token(make=False)


def join_options(address: str) -> list[str]:
    """What `ray start` is told of the cluster to join."""
    return [f"--address={address}"]


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


def guarded(address: str) -> list[str]:
    """The program that runs a node, and ends it with all its processes once the head is silent."""
    return [sys.executable, str(Path(__file__).with_name("guard.py")), address]


def launch(
    options: list[str], num_cpus: int | None, loopback: bool, around: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Runs `ray start` until it says that the node is up. Raises RemoteError.

    `around` begins the command line of a program that runs it and ends with it.
    """
    options = [*options, f"--temp-dir={temporary()}"]
    if num_cpus is not None:
        options = [*options, f"--num-cpus={num_cpus}"]
    command = [*around, *ray("start", "--block", "--disable-usage-stats", *options)]
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
    give_up = time.monotonic() + PATIENCE
    try:
        while READY not in log.read_text():
            if process.poll() is not None or time.monotonic() > give_up:
                said = last(log.read_text())
                raise RemoteError(f"Ray did not start: {said} (all of it: {log}).")
            time.sleep(0.1)
    except BaseException:
        kill(family(process.pid))
        raise
    return process


def noted(process: subprocess.Popen[bytes], address: str) -> Node:
    """The node that a process leads, noted as started here."""
    node = node_of(process.pid, address)
    note([*running(), node])
    return node


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
