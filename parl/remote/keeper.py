"""A node that comes back: `parl cluster join --keep`."""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

from parl.core.errors import RemoteError
from parl.remote.answers import INTERVAL, answers
from parl.remote.cluster import check_joins, guarded, join_options, launch
from parl.remote.nodes import family, kill, node_of, note, running

import psutil  # isort: skip  Ray brings one and makes it importable

LOOK = 1.0  # seconds between two looks at the node
LEAVE = 5.0  # seconds that a node has to take its leave of the cluster
PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before the node is started again
STEADY = 60.0  # seconds after which a node counts as one that had come up well


def keep(address: str, num_cpus: int | None, patience: float, say: Callable[[str], None]) -> None:
    """Keeps this machine a node of the cluster at host:port, until a signal ends this process.

    A node that ended is started again after a pause that doubles, up to half a minute, for nodes
    that end soon. `say` is told what happens. Raises ConfigError as `join` does, and RemoteError
    once the cluster has not been joined for `patience` seconds; 0 is for ever.
    """
    check_joins(address)
    note([*running(), node_of(os.getpid(), address)])
    up, pause, said = time.monotonic(), PAUSE, ""  # when a node ran last; what was said last
    try:
        while True:
            began, failure = time.monotonic(), ""
            error = answers(address)
            if error:
                failure = f"no Ray cluster answers at {address} ({error})"
            else:
                try:
                    stay(address, num_cpus, say)
                except RemoteError as raised:
                    failure = str(raised).rstrip(".")
            now = time.monotonic()
            if not failure:
                up = now
                say(f"the node of {address} ended after {now - began:.0f} s; it is started again")
            elif patience and now - up > patience:
                raise RemoteError(f"{failure}, and that for {words(patience)}.")
            elif kind(failure) != said:
                limit = f"for {words(patience)}" if patience else "without end"
                say(f"{failure}; tried again {limit}, `parl cluster stop` or Ctrl-C ends that")
            said = kind(failure)
            longer = PAUSE if now - began > STEADY else min(2 * pause, LONGEST_PAUSE)
            pause = INTERVAL if error else longer
            time.sleep(pause)
    finally:
        note([node for node in running() if node.pid != os.getpid()])


def stay(address: str, num_cpus: int | None, say: Callable[[str], None]) -> None:
    """Starts a node and returns when it has ended, with all its processes.

    Raises RemoteError where it does not come up.
    """
    process = launch(join_options(address), num_cpus, False, guarded(address))
    try:
        say(f"a node of {address} runs here")
        vital = [each for each in family(process.pid) if name_of(each) == "raylet"]
        while process.poll() is None and all(map(lives, vital)):
            time.sleep(LOOK)
    finally:
        # a raylet that ended in order leaves `ray start`, and that may leave monitors of logs
        members = family(process.pid)
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(LEAVE)
        kill(members)


def kind(failure: str) -> str:
    """A failure without its details, which change while it lasts."""
    return failure.partition(" (")[0]


def name_of(process: psutil.Process) -> str:
    """The name of a program; empty where the process has ended."""
    with suppress(psutil.Error):
        return process.name()
    return ""


def lives(process: psutil.Process) -> bool:
    """Whether a process has not ended."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def words(seconds: float) -> str:
    """A time as text, such as 60 minutes."""
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
