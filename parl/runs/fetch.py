"""Runs that lie in a store: copied here to be read, or to go on."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parl.core import checkpoint
from parl.core.errors import CheckpointError, ConfigError, ParlError, StoreError
from parl.core.files import make_directory, writing
from parl.core.locks import Held, Lock
from parl.core.pieces import files_of
from parl.core.settings import path_of
from parl.core.store import Store, uri_of
from parl.report.metrics import METRICS
from parl.runs.checkpoints import REPLAY
from parl.runs.store_wait import told_of_waiting

SMALL = ("config.json", METRICS, "metrics.csv", "result.json", "curve.png", "README.md")
HUB_FILES = "files.json"  # marks what was pushed to a hub
MANIFEST = re.compile(r"checkpoints/(\d{1,18})/manifest\.json")
FRESH = 10.0  # seconds for which a copy counts as that of now
TRIES = 3  # of a checkpoint that is replaced while it is read
WAIT = 600.0  # seconds for another process that fetches the same

fetched: dict[str, float] = {}  # when this process fetched a URI


def run_path(name: str | Path) -> Path:
    """The directory of a run, or of runs, given by a path or a URI: then of a copy without replay.

    Raises ConfigError where there is no run, StoreError or MissingPackage.
    """
    uri = uri_of(name)
    if not uri:
        return path_of(name)
    place = cache_folder() / slug(uri)
    if time.monotonic() - fetched.get(uri, -FRESH) >= FRESH:
        make_directory(place)
        store = Store(uri)
        with alone(place), told_of_waiting(store):
            fetch_all(store, place)
        fetched[uri] = time.monotonic()
    return place


def working_copy(uri: str) -> Path:
    """The directory of this machine in which the run at a URI goes on, with all it needs.

    A copy that is there stays as it is unless the store has newer checkpoints. Raises ConfigError
    where that is another run.
    """
    place, store = working_directory(uri), Store(uri)
    with told_of_waiting(store):
        config, names = run_in(store), store.names()
    ours = known_run(place)
    if ours and ours != config.get("run_id"):
        raise ConfigError(
            f"{place} holds another run than {uri}: move it away, or go on in another directory."
        )
    if HUB_FILES in names:
        raise ConfigError(
            f"{uri} is in a hub, which stays as it is: 'parl hub pull {uri}' and resume that."
        )
    if not ours or max(steps_in(names), default=-1) > newest(place):
        make_directory(place)
        with alone(place):
            fetch_run(store, place, names, replay=True)
    return place


def working_directory(uri: str) -> Path:
    """Where a run that is copied to a URI writes on this machine."""
    return Path("runs") / slug(uri)


def slug(uri: str) -> str:
    """A URI as the name of a directory."""
    name = re.sub(r"[^\w.=]+", "-", uri)
    digest = hashlib.sha256(uri.encode()).hexdigest()[:8]
    return name if len(name) <= 100 else f"{name[:90]}-{digest}"


def cache_folder() -> Path:
    """Where copies of runs are kept that are only read."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "parl" / "runs"
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Waits for other processes that fetch into the same directory."""
    end = time.monotonic() + WAIT
    while True:
        try:
            lock = Lock(place / ".fetching")
            break
        except Held as error:
            if time.monotonic() > end:
                raise StoreError(f"{error} has fetched into {place} for too long.") from error
            time.sleep(0.1)
    try:
        yield
    finally:
        lock.close()


def run_in(store: Store) -> dict[str, Any]:
    """The config of the run in a store. Raises ConfigError where there is none."""
    data = store.get("config.json")
    if data is None:
        raise ConfigError(f"{store.uri} holds no run: it has no config.json.")
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{store.at('config.json')} is not readable: {error}.") from error


def known_run(place: Path) -> str:
    """The id of the run in a directory; empty where there is none."""
    try:
        return str(json.loads((place / "config.json").read_text())["run_id"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def newest(place: Path) -> int:
    """The newest checkpoint of a run here; -1 where there is none."""
    folder = place / "checkpoints"
    found = [int(p.parent.name) for p in folder.glob("*/manifest.json") if p.parent.name.isdigit()]
    return max(found, default=-1)


def steps_in(names: Mapping[str, int]) -> list[int]:
    """The checkpoints of a run in a store, which have a manifest."""
    return sorted(int(m[1]) for name in names if (m := MANIFEST.fullmatch(name)))


def fetch_all(store: Store, place: Path) -> None:
    """Copies the run at a URI, or all runs below it. Raises ConfigError where there is none."""
    names = store.names()
    roots = [name.removesuffix("config.json") for name in names if is_config(name)]
    roots = [""] if "" in roots else roots
    if not roots:
        there = "it has no config.json" if names else "there is nothing"
        raise ConfigError(f"{store.uri} holds no run: {there}.")
    for root in roots:
        below = {n.removeprefix(root): size for n, size in names.items() if n.startswith(root)}
        own = Store(f"{store.uri}/{root}".rstrip("/")) if root else store
        fetch_run(own, make_directory(place / root), below, replay=False)


def is_config(name: str) -> bool:
    """Whether a file is the config of a run."""
    return name == "config.json" or name.endswith("/config.json")


def fetch_run(store: Store, place: Path, names: Mapping[str, int], replay: bool) -> None:
    """Copies a run; what it has no more goes here as well."""
    with writing(place):
        for name in SMALL:
            data = store.get(name) if name in names else None
            if data is None:
                (place / name).unlink(missing_ok=True)
            else:
                write_bytes(place / name, data)
        folder = place / "checkpoints"
        folder.mkdir(exist_ok=True)
        steps = steps_in(names)
        for step in reversed(steps):
            fetch_checkpoint(store, step, folder / str(step), replay)
        for old in folder.iterdir():
            if old.name.isdigit() and int(old.name) not in steps:
                shutil.rmtree(old, ignore_errors=True)


def fetch_checkpoint(store: Store, step: int, path: Path, replay: bool) -> None:
    """Copies one checkpoint that is whole, or none, with a loud line."""
    problem = ""
    for _ in range(TRIES):
        manifest = store.get(f"checkpoints/{step}/manifest.json")
        if manifest is None:
            return  # removed meanwhile
        if is_here(path, manifest, replay):
            return
        problem = copied(store, step, path, manifest, replay)
        if not problem:
            return
    print(f"WARNING: {store.at(f'checkpoints/{step}')} is left out: {problem}", file=sys.stderr)


def is_here(path: Path, manifest: bytes, replay: bool) -> bool:
    """Whether this checkpoint was copied already, with its replay if that is needed."""
    try:
        same = (path / "manifest.json").read_bytes() == manifest
        return same and (not replay or all((path / file).exists() for file in files_in(path)))
    except (OSError, ParlError):
        return False


def files_in(path: Path) -> set[str]:
    """The files that a checkpoint's manifest names. Raises DamagedCheckpoint."""
    entries = checkpoint.read_manifest(path / "manifest.json")["arrays"]
    return {"arrays.bin", *(entry.get("file", "arrays.bin") for entry in entries)}


def copied(store: Store, step: int, path: Path, manifest: bytes, replay: bool) -> str:
    """Copies and verifies a checkpoint; returns what was wrong, or nothing."""
    temporary = path.with_name(f".writing-{step}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        (temporary / "manifest.json").write_bytes(manifest)
        for file in files_in(temporary):
            if replay or file != f"{REPLAY}.bin":
                name = f"checkpoints/{step}/{file}"
                if not store.get_file(name, temporary / file):
                    return f"there is no {name}."
        without = () if replay else (REPLAY,)
        meta = checkpoint.read(temporary, without, mapped=True).meta
        if replay:
            fetch_pieces(store, path.parents[1] / REPLAY, files_of(meta.get(REPLAY)))
        checkpoint.replace(temporary, path)
        return ""
    except CheckpointError as error:
        return str(error)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def fetch_pieces(store: Store, folder: Path, pieces: set[str]) -> None:
    """Copies the pieces of a large replay that are not here; each is verified when it is read."""
    if pieces:
        folder.mkdir(mode=0o700, exist_ok=True)
    for piece in sorted(pieces):
        path = folder / f"{piece}.bin"
        temporary = folder / f".{piece}.writing"
        if not path.exists() and store.get_file(f"{REPLAY}/{piece}.bin", temporary):
            temporary.replace(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file by one rename."""
    temporary = path.with_name(f".writing-{path.name}-{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
