"""Runs and exported policies in a hub: a directory or a URI with a folder for each.

    HUB/NAME/files.json     what it is, and name, bytes and sha256 of each of its files; written
                            last: without it there is nothing
    HUB/NAME/README.md      its card
    HUB/NAME/...            the run with one checkpoint and without replay, or the policy

The folder of a run is a run: `parl eval HUB/NAME` and `parl.load` take it as it is. The sha256
tell what was damaged, not who wrote it.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parl.core import checkpoint as checkpoints
from parl.core.errors import ConfigError, StoreError
from parl.core.files import make_directory, writing
from parl.core.store import Store, is_inside, uri_of
from parl.deploy.card import about_policy, about_run, card
from parl.deploy.contract import CONTRACT
from parl.runs.checkpoints import REPLAY
from parl.runs.directory import RunDir
from parl.runs.fetch import HUB_FILES, run_path

FILES, README, FORMAT = HUB_FILES, "README.md", "parl hub"
OF_RUN = ("config.json", "metrics.jsonl", "result.json", "curve.png", "video.mp4", "video.gif")


def push(
    source: str | Path,
    hub: str | Path,
    name: str | None = None,
    checkpoint: str | int = "latest",
    replace: bool = False,
) -> str:
    """Copies a run, with one of its checkpoints, or an exported policy into a hub.

    `name` is that of its directory if not given. What the hub has of this name is only replaced
    with `replace`. Returns its path or URI there. Raises ConfigError, CheckpointError, StoreError.
    """
    place = run_path(source)
    name = name or Path(str(source)).name
    if not is_inside(name) or "/" in name:
        raise ConfigError(f"'{name}' is no name for a folder of a hub.")
    store = Store(f"{located(hub)}/{name}")
    there = described(store)
    if there is not None and not replace:
        raise ConfigError(f"{store.uri} is there already: choose another --name, or --replace it.")
    with tempfile.TemporaryDirectory(prefix="parl-hub-") as scratch:
        staged = Path(scratch)
        about = staged_run if (place / "config.json").is_file() else staged_policy
        told = about(place, staged, checkpoint)
        files = [path.relative_to(staged).as_posix() for path in files_below(staged)]
        (staged / README).write_text(card(name, told, files))
        send(store, staged, told)
    if there is not None:
        kept = {README, FILES, *files}
        store.remove(old for old in there["files"] if old not in kept)
    return store.uri if uri_of(hub) else str(Path(hub) / name)


def staged_run(place: Path, staged: Path, checkpoint: str | int) -> dict[str, Any]:
    """Copies what a hub holds of a run into `staged`; returns what it says of it."""
    run = RunDir(place)
    config = run.config()
    step = run.pick(config.run_id, checkpoint, replay=False).meta["env_steps"]
    for name in OF_RUN:
        if (place / name).is_file():
            shutil.copyfile(place / name, staged / name)
    RunDir(staged).write_config(dataclasses.replace(config, store=""))  # it is copied no more
    target = staged / "checkpoints" / str(step)
    shutil.copytree(
        checkpoints.standing(run.checkpoints / str(step)),
        target,
        ignore=shutil.ignore_patterns(f"{REPLAY}.bin"),
    )
    checkpoints.forget(target, REPLAY)
    checkpoints.amend(target, {REPLAY: None})
    return about_run(staged) | {"checkpoint": step}


def staged_policy(place: Path, staged: Path, checkpoint: str | int) -> dict[str, Any]:
    """Copies an exported policy into `staged`; returns what a hub says of it."""
    if not (place / CONTRACT).is_file():
        raise ConfigError(f"{place} is neither a run nor an exported policy.")
    for path in files_below(place):
        target = staged / path.relative_to(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return about_policy(staged)


def send(store: Store, staged: Path, about: Mapping[str, Any]) -> None:
    """Writes all files, then files.json, whose presence makes them count."""
    store.remove([FILES])
    found = {}
    for path in files_below(staged):
        name = path.relative_to(staged).as_posix()
        found[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        with path.open("rb") as file:
            store.put_file(name, file, lambda: None)
    content = {"format": FORMAT, "schema": 1, "about": dict(about), "files": found}
    store.put(FILES, json.dumps(content, indent=1).encode() + b"\n")


def pull(entry: str | Path, out: str | Path | None = None) -> Path:
    """Copies a run or policy from a hub into `out`, by its name if not given, and verifies it.

    Raises ConfigError where there is none or `out` exists, and StoreError for damaged files.
    """
    store = Store(located(entry))
    told = described(store)
    if told is None:
        raise ConfigError(f"{uri_of(entry) or entry} is in no hub: it has no {FILES}.")
    target = Path(store.uri.rpartition("/")[2]) if out is None else Path(out)
    if target.exists():
        raise ConfigError(f"{target} exists: choose another --out.")
    make_directory(target.absolute().parent)
    temporary = target.with_name(f".writing-{target.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for name, known in told["files"].items():
            path = temporary / name
            make_directory(path.parent)
            with writing(path):
                is_there = store.get_file(name, path)
            if not is_there or path.stat().st_size != known["bytes"]:
                raise StoreError(f"{store.at(name)} is not there in its full length.")
            if sha256_of(path) != known["sha256"]:
                raise StoreError(f"{store.at(name)} is damaged: its sha256 is another one.")
        with writing(target):
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def entries(hub: str | Path) -> dict[str, dict[str, Any]]:
    """What a hub says of each of its folders, by name."""
    store = Store(located(hub))
    names = sorted(name for name in store.names() if name.endswith(f"/{FILES}"))
    found = {}
    for name in names:
        folder = name.removesuffix(f"/{FILES}")
        if (told := described(Store(f"{store.uri}/{folder}"))) is not None:
            size = sum(file["bytes"] for file in told["files"].values())
            found[folder] = told["about"] | {"bytes": size}
    return found


def described(store: Store) -> dict[str, Any] | None:
    """The content of files.json; None where there is none. Raises StoreError if it is invalid."""
    data = store.get(FILES)
    if data is None:
        return None
    try:
        told = json.loads(data)
        if told["format"] != FORMAT or told["schema"] != 1:
            raise ValueError(f"its format is {told['format']!r:.40}")
        for name, known in told["files"].items():
            if not is_inside(name) or not isinstance(known["sha256"], str):
                raise ValueError(f"it names {name!r:.80}")
            int(known["bytes"])
        dict(told["about"])
        return told
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{store.at(FILES)} is not readable: {error}.") from error


def located(place: str | Path) -> str:
    """The URI of a hub or of a folder in one; a directory is a hub like any other."""
    return uri_of(place) or f"file://{Path(place).resolve()}"


def files_below(place: Path) -> list[Path]:
    """All plain files below a directory, sorted."""
    return sorted(path for path in place.rglob("*") if path.is_file() and not path.is_symlink())


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
