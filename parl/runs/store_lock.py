"""The lock of a run in a store: one process writes there at a time.

It is the file lock.json, which its holder writes again every BEAT seconds. A holder that has died
cannot remove it, and clocks of two machines cannot be compared: who wants the lock of another
machine watches whether it still changes.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parl.core.checkpoint import is_alive
from parl.core.errors import StoreError
from parl.core.store import Store

NAME = "lock.json"
BEAT = 15.0  # seconds between two writes of the lock
WATCHED = 60.0  # seconds without one after which its holder counts as dead


class Taken(StoreError):
    """Another process writes to this place of the store."""


class StoreLock:
    """Holds the lock of the run `run_id` in a store until `release`.

    Raises Taken where another run is there, or another process that lives writes there, and
    StoreError where the store cannot be used. `say` is told what is waited for.
    """

    def __init__(self, store: Store, run_id: str, say: Callable[[str], None]):
        self.store, self.session, self.beats = store, uuid.uuid4().hex, 0
        self.about = {"run_id": run_id, "session": self.session, **whereabouts()}
        self.last = time.monotonic()
        if store.create(NAME, self.content()):
            return
        held = self.read()
        if not has_ended(held):
            self.watch(held, say)
        store.remove([NAME])
        if not store.create(NAME, self.content()):
            raise Taken(f"{store.uri} was taken by another process at the same moment.")

    def content(self) -> bytes:
        """What is written, never twice the same."""
        self.beats += 1
        return json.dumps(self.about | {"beats": self.beats}).encode()

    def read(self) -> dict[str, Any]:
        """What the holder has written; empty where nobody has."""
        try:
            found = json.loads(self.store.get(NAME) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def watch(self, held: dict[str, Any], say: Callable[[str], None]) -> None:
        """Waits until the holder counts as dead. Raises Taken if it lives."""
        who = f"process {held.get('process')} on {held.get('host')}"
        say(f"{self.store.uri} is held by {who}: waiting {WATCHED:g} s to see whether it lives.")
        end = time.monotonic() + WATCHED
        while time.monotonic() < end:
            time.sleep(min(1.0, WATCHED / 10))
            found = self.read()
            if not found:
                return
            if found != held:
                raise Taken(f"{self.store.uri} is in use: {who} writes there; stop it first.")

    def beat(self) -> None:
        """Writes the lock again when that is due. Raises Taken where it is another's by now."""
        if time.monotonic() - self.last < BEAT:
            return
        if self.read().get("session") != self.session:
            raise Taken(f"another process has taken over {self.store.uri}")
        self.store.put(NAME, self.content())
        self.last = time.monotonic()

    def release(self) -> None:
        """Gives the lock back."""
        if self.read().get("session") == self.session:
            self.store.remove([NAME])


def whereabouts() -> dict[str, Any]:
    """This process, and what tells its machine and its container apart from others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        space = ""
    return {"process": os.getpid(), "host": socket.gethostname(), "space": space}


def has_ended(held: dict[str, Any]) -> bool:
    """Whether the holder certainly has: a process of this machine that is no more, or this one."""
    here = whereabouts()
    if not here["space"] or any(held.get(name) != here[name] for name in ("host", "space")):
        return False
    process = held.get("process")
    return process == here["process"] or not (isinstance(process, int) and is_alive(process))
