"""Runs a node of a cluster, and ends it with all its processes once the cluster's head is silent.

    python guard.py HOST:PORT COMMAND ...

Where the first machine is gone without a word, Ray notices it elsewhere after many minutes. This is
run by its path and needs the standard library alone, so that it stays small.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

INTERVAL = 3.0  # seconds between two looks
TIMEOUT = 2.0  # seconds for one answer
SILENCE = 40.0  # seconds without an answer after which the head counts as gone
GRACE = 5.0  # seconds that the node has to end in order
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def main(address: str, command: list[str]) -> int:
    """Returns the command's exit code, or 1 where the head was gone."""
    child = subprocess.Popen(command, preexec_fn=end_with_parent)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: child.terminate())
    heard = time.monotonic()
    while child.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(INTERVAL)
        if answers(address):
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENCE:
            print(f"{address} has given no answer for {SILENCE:.0f} s: this node ends", flush=True)
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
            end_session()
            return 1
    return child.returncode


def answers(address: str) -> bool:
    """Whether somebody listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), TIMEOUT).close()
    except OSError:
        return False
    return True


def end_with_parent() -> None:
    """Has this process get SIGTERM when the one that started it dies. On Linux."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGTERM)


def end_session() -> None:
    """Kills what else runs in the session of this process. On Linux."""
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        with suppress(OSError):
            if name.isdigit() and int(name) != os.getpid() and os.getsid(int(name)) == os.getsid(0):
                os.kill(int(name), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
