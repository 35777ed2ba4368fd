"""Heartbeats and printed output of workers while they handle a request.

Requests keep the worker's main thread, where environments want to live, and Ray then takes no
other call. So this goes beside them, through the cluster's key-value store, about once a second.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, TextIO

from ray._private import worker as ray_worker
from ray.exceptions import RpcError

from parl.envs import pulse

INTERVAL = 0.5  # seconds between two looks at what there is to tell
TAIL = 20_000  # characters printed that are kept until the driver has seen them
SPACE = b"parl"  # namespace of the keys
PATIENCE = 3.0  # seconds for the store to answer
HALT = b"-halt"  # behind a worker's key: it is to break off its fragment


class Sign(NamedTuple):
    """How a worker fares."""

    beats: int = 0  # what its environments have done so far
    stepping: bool = False  # whether they have been stepped: what comes first takes longer
    longest: float = 0.0  # seconds between two beats, so far
    printed: int = 0  # characters, in whole lines
    text: str = ""  # the last of them


class Printed:
    """Keeps the last that was printed, in whole lines."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count, self.text, self.line = 0, "", ""

    def add(self, text: str) -> None:
        """Some more."""
        with self.lock:
            whole, newline, self.line = (self.line + text).rpartition("\n")
            self.line = self.line[-TAIL:]
            self.count += len(whole + newline)
            self.text = (self.text + whole + newline)[-TAIL:]


class Tee:
    """A text stream that also keeps what is written."""

    def __init__(self, stream: TextIO, printed: Printed):
        self.stream, self.printed = stream, printed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """As that of the stream."""
        self.printed.add(str(text))
        return self.stream.write(text)


class Teller:
    """The worker's side: tells whenever there is something new."""

    def __init__(self, key: bytes, stepping: Callable[[], bool]):
        self.key, self.printed, self.told = key, Printed(), Sign()
        self.busy, self.stepping = False, stepping  # whether a request is worked on
        self.beats, self.since, self.longest = 0, 0.0, 0.0
        self.watched = False  # whether something should happen, since the last look
        self.halted = False  # whether the driver wants no fragment any more
        self.lock = threading.Lock()
        sys.stdout, sys.stderr = (Tee(s, self.printed) for s in (sys.stdout, sys.stderr))
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """What the thread does."""
        while True:
            time.sleep(INTERVAL)
            self.look()
            self.tell()
            if self.busy:
                self.halted = is_halted(self.key)

    def look(self) -> None:
        """Notes how long nothing had happened, where something should, once it has.

        What has not happened yet may never: a hang must not lengthen its own deadline.
        """
        now, beats = time.monotonic(), pulse.beats
        if self.watched and beats != self.beats:
            self.longest = max(self.longest, now - self.since)
        if not self.watched or beats != self.beats:
            self.beats, self.since = beats, now
        self.watched = self.busy and self.stepping()

    def tell(self) -> None:
        """Tells now. A store that does not answer is the driver's business."""
        with self.lock:
            printed = self.printed
            longest, stepping = self.longest, self.stepping()
            sign = Sign(pulse.beats, stepping, longest, printed.count, printed.text)
            if sign != self.told:
                with suppress(RpcError, AttributeError):  # the connection may be closing
                    store().internal_kv_put(
                        self.key, json.dumps(sign).encode(), True, SPACE, timeout=PATIENCE
                    )
                    self.told = sign


def store() -> Any:
    """The cluster's key-value store."""
    return ray_worker.global_worker.gcs_client  # pyright: ignore[reportAttributeAccessIssue]


def heard(keys: Iterable[bytes]) -> dict[bytes, Sign]:
    """What the workers with these keys told last; nothing of those that told nothing."""
    try:
        found = store().internal_kv_multi_get(list(keys), SPACE, timeout=PATIENCE)
    except (RpcError, AttributeError):
        return {}
    return {key: Sign(*json.loads(value)) for key, value in found.items()}


def halt(keys: Iterable[bytes]) -> None:
    """Has the workers with these keys break off their fragments."""
    with suppress(RpcError, AttributeError):
        for key in keys:
            store().internal_kv_put(key + HALT, b"", True, SPACE, timeout=PATIENCE)


def is_halted(key: bytes) -> bool:
    """Whether the worker with this key is to break off its fragment."""
    with suppress(RpcError, AttributeError):
        return store().internal_kv_exists(key + HALT, SPACE, timeout=PATIENCE)
    return False


def forget(key: bytes) -> None:
    """Removes what a worker has told, and what it was."""
    with suppress(RpcError, AttributeError):
        for name in (key, key + HALT):
            store().internal_kv_del(name, False, SPACE, timeout=PATIENCE)


def show(who: str, sign: Sign, seen: int) -> None:
    """Shows on stderr what somebody printed after its first `seen` characters."""
    new = sign.printed - seen
    text = sign.text[-new:] if new > 0 else ""
    for line in text.splitlines():
        print(f"[{who}] {line}", file=sys.stderr)
