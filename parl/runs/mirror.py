"""Keeps a copy of a run in a store while it trains.

A run writes into its directory as ever; a thread sends what is finished there. The copy has the
layout of the directory. Stores cannot rename, so the manifest of a checkpoint is sent last: a
checkpoint without one does not count. A store that fails is told of once and caught up with later;
training never waits for it.
"""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from parl.core.checkpoint import identity, standing
from parl.core.errors import ConfigError, ParlError, StoreError
from parl.core.pieces import files_of
from parl.core.store import Store
from parl.report.metrics import METRICS
from parl.runs.checkpoints import REPLAY, Checkpoints
from parl.runs.hooks import Hooks
from parl.runs.store_lock import StoreLock, Taken
from parl.runs.store_wait import say, told_of_waiting

CONFIG = "config.json"
RECORDS = (METRICS, "metrics.csv")  # sent before the checkpoints
RESULTS = ("result.json", "curve.png")  # sent after them
OFTEN = 3.0  # seconds between two looks at what is new
RARELY = 60.0  # likewise, where each file is a commit
LONGEST_PAUSE = 30.0  # seconds between two tries of a store that fails
PATIENCE = 20.0  # seconds without anything sent after which a run ends without its store
MOST = 600.0  # seconds that a run waits for its store at the end
CHECKPOINT_FILE = re.compile(r"checkpoints/(\d{1,18})/[a-z]+\.(?:bin|json)")
PIECE = re.compile(rf"{REPLAY}/[0-9a-f]{{64}}\.bin")


class Sent(NamedTuple):
    """What the store holds of a checkpoint."""

    manifest: bytes
    parts: dict[str, list[str]]  # file -> sha256 of its arrays
    pieces: set[str]


class Copy:
    """The copy of one run in a store; `alive` is called between parts of large files."""

    def __init__(self, path: Path, store: Store, alive: Callable[[], None] = lambda: None):
        self.run, self.store, self.alive = Checkpoints(path), store, alive
        self.there: set[str] | None = None  # names of the store's files; None: not asked yet
        self.stamps: dict[str, tuple] = {}  # of small files that were sent
        self.sent: dict[int, Sent] = {}

    def update(self) -> None:
        """Sends what the store lacks and removes what the run has removed. Raises StoreError."""
        if self.there is None:
            self.there = set(self.store.names())
        for name in RESULTS:
            if not stamp_of(self.run.path / name):
                self.send_small(name)
        for name in (*RECORDS, *{CONFIG} & self.there):
            self.send_small(name)
        steps = self.run.saved()
        sent = {step for step in reversed(steps) if self.send_checkpoint(step)}
        if sent:  # as here, it is a run once it has a checkpoint
            for name in (CONFIG, *RESULTS):
                self.send_small(name)
            self.prune({*steps, *self.run.saved()})

    def send_small(self, name: str) -> None:
        """Sends a file that has changed; removes one that is no more."""
        assert self.there is not None
        path = self.run.path / name
        stamp = stamp_of(path)
        if not stamp:
            if name in self.there:
                self.store.remove([name])
                self.there.discard(name)
            return
        if self.stamps.get(name) == stamp:
            return
        data = path.read_bytes()
        if name == METRICS:
            data = data[: data.rfind(b"\n") + 1]  # without a line that is being written
        self.store.put(name, data)
        self.stamps[name] = stamp
        self.there.add(name)
        self.alive()

    def send_checkpoint(self, step: int) -> bool:
        """Sends a checkpoint, its manifest last; False where it changed meanwhile."""
        place = standing(self.run.checkpoints / str(step))
        before = identity(place)
        known = self.sent.get(step)
        try:
            manifest = (place / "manifest.json").read_bytes()
            if known is not None and known.manifest == manifest:
                return True
            told = told_by(manifest)
            if known is None:
                known = self.found(step)
            changed = [f for f, x in told.parts.items() if known is None or known.parts.get(f) != x]
            with contextlib.ExitStack() as stack:
                # an open file stays whole when the run replaces or removes it
                opened = {name: stack.enter_context((place / name).open("rb")) for name in changed}
                if identity(place) != before:
                    return False
                self.send_parts(step, told, opened)
        except FileNotFoundError:
            return False
        self.send(f"checkpoints/{step}/manifest.json", manifest)
        self.sent[step] = told
        return True

    def send_parts(self, step: int, told: Sent, opened: dict[str, Any]) -> None:
        """Sends the files of a checkpoint but its manifest, which is withdrawn first."""
        assert self.there is not None
        manifest = f"checkpoints/{step}/manifest.json"
        if opened and manifest in self.there:
            self.store.remove([manifest])
            self.there.discard(manifest)
            self.sent.pop(step, None)
        for piece in sorted(told.pieces):
            name = f"{REPLAY}/{piece}.bin"
            if name not in self.there:
                with (self.run.path / name).open("rb") as file:
                    self.send(name, file)
        for name, file in opened.items():
            self.send(f"checkpoints/{step}/{name}", file)

    def send(self, name: str, content: Any) -> None:
        """Sends bytes or an open file."""
        assert self.there is not None
        if isinstance(content, bytes):
            self.store.put(name, content)
        else:
            self.store.put_file(name, content, self.alive)
        self.there.add(name)
        self.alive()

    def found(self, step: int) -> Sent | None:
        """What the store holds of a checkpoint from an earlier process."""
        assert self.there is not None
        name = f"checkpoints/{step}/manifest.json"
        data = self.store.get(name) if name in self.there else None
        with contextlib.suppress(ValueError):
            return told_by(data) if data else None
        return None

    def prune(self, steps: set[int]) -> None:
        """Removes checkpoints that the run has no more, manifests first, and loose pieces."""
        assert self.there is not None
        found = ((name, CHECKPOINT_FILE.fullmatch(name)) for name in self.there)
        gone = [name for name, match in found if match and int(match[1]) not in steps]
        gone.sort(key=lambda name: not name.endswith("manifest.json"))
        for step in self.sent.keys() - steps:
            del self.sent[step]
        named = {f"{REPLAY}/{piece}.bin" for told in self.sent.values() for piece in told.pieces}
        gone += [name for name in self.there if PIECE.fullmatch(name) and name not in named]
        for name in gone:
            self.store.remove([name])
            self.there.discard(name)


def told_by(manifest: bytes) -> Sent:
    """What a checkpoint's manifest says of its files. Raises ValueError."""
    try:
        content = json.loads(manifest)
        parts: dict[str, list[str]] = {"arrays.bin": []}
        for entry in content["arrays"]:
            parts.setdefault(entry.get("file", "arrays.bin"), []).append(entry["sha256"])
        return Sent(manifest, parts, files_of(content["meta"].get(REPLAY)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no manifest: {error}") from error


def stamp_of(path: Path) -> tuple:
    """What changes with a file's content; empty where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


class Mirror:
    """The thread that keeps a run's copy."""

    def __init__(self, path: Path, store: Store, run_id: str, lock: StoreLock | None):
        self.path, self.store, self.run_id, self.lock = path, store, run_id, lock
        self.copy = Copy(path, store, self.alive)
        self.wanted, self.closing = threading.Event(), threading.Event()
        self.trouble, self.progress = "", time.monotonic()
        self.often = RARELY if store.scheme == "hf" else OFTEN
        self.thread = threading.Thread(target=self.work, name="mirror", daemon=True)
        self.thread.start()

    def hooks(self) -> Hooks:
        """What a run calls when there is something new."""
        wake = lambda told: self.wanted.set()
        return Hooks(on_start=wake, on_record=wake, on_checkpoint=wake, on_end=wake)

    def alive(self) -> None:
        """Notes that something was sent, and keeps the lock."""
        self.progress = time.monotonic()
        if self.lock is not None:
            self.lock.beat()

    def work(self) -> None:
        """Sends until the run ends; tries again for as long as the store fails."""
        pause = self.often
        while True:
            ending = self.closing.is_set()
            try:
                self.lock = self.lock or StoreLock(self.store, self.run_id, say)
                self.lock.beat()
                self.copy.update()
                if self.trouble:
                    say(f"{self.store.uri} has caught up.")
                self.trouble, pause = "", self.often
                if ending:
                    self.lock.release()
                    return
            except Taken as error:
                self.trouble = str(error)
                say(f"WARNING: {error}: this run is not copied there any more.")
                return
            except (ParlError, OSError, ValueError) as error:
                if not self.trouble:
                    say(f"WARNING: {error} The run goes on; what is missing there is sent later.")
                self.trouble, pause = str(error), min(max(1.0, 2 * pause), LONGEST_PAUSE)
                self.copy.there = None  # ask again what arrived
            self.rest(pause)

    def rest(self, pause: float) -> None:
        """Waits for something new, but at least `pause`; less when the run ends."""
        self.closing.wait(pause)
        if self.closing.is_set():
            time.sleep(min(pause, 1.0) if self.trouble else 0)
            return
        self.wanted.wait(max(self.often, 10.0))
        self.wanted.clear()

    def close(self) -> None:
        """Waits until the store has everything; not for ever, then it says what to do."""
        self.closing.set()
        self.wanted.set()
        begin = self.progress = time.monotonic()
        said = False
        while self.thread.is_alive():
            self.thread.join(0.1)
            now = time.monotonic()
            if not said and now - begin > 2.0:
                say(f"sending the rest to {self.store.uri}")
                said = True
            if now - self.progress > PATIENCE or now - begin > MOST:
                break
        if self.thread.is_alive():
            reason = self.trouble or "it takes too long"
            say(
                f"WARNING: {self.store.uri} lacks the last of this run ({reason}): 'parl resume "
                f"{self.path}' sends it."
            )


@contextlib.contextmanager
def mirrored(path: Path, uri: str, run_id: str, is_new: bool = False) -> Iterator[list[Hooks]]:
    """Keeps a copy of the run at `path` in a store; without a URI, does nothing.

    Yields the hooks by which the run tells that there is something new. A new run needs the store
    at once; another one goes on without it. Raises ConfigError, StoreError or MissingPackage.
    """
    if not uri:
        yield []
        return
    store = Store(uri)
    lock = None
    try:
        with told_of_waiting(store):
            lock = StoreLock(store, run_id, say)
            check_place(store, run_id, is_new, lock)
    except Taken:
        raise
    except StoreError as error:
        if is_new:
            raise
        say(f"WARNING: {error} The run goes on; what is missing there is sent later.")
    mirror = Mirror(path, store, run_id, lock)
    try:
        yield [mirror.hooks()]
    finally:
        mirror.close()


def check_place(store: Store, run_id: str, is_new: bool, lock: StoreLock) -> None:
    """Raises ConfigError, and gives the lock back, where a store holds another run."""
    there = store.get("config.json")
    if there is not None and (is_new or f'"{run_id}"' not in there.decode(errors="replace")):
        lock.release()
        raise ConfigError(
            f"{store.uri} already holds a run: continue it with 'parl resume {store.uri}' or "
            "choose another --out."
        )
