"""Checkpoints: a directory with one JSON manifest and one file of raw arrays, never pickle.

    <path>/manifest.json   schema version, checksum of itself, metadata, and for each array
                           its name, dtype, shape, offset in its file and sha256
    <path>/arrays.bin      the arrays, little-endian, one after the other
    <path>/PART.bin        the arrays of a part kept in its own file, such as replay.bin

A checkpoint appears under its name by one rename or not at all. Everything is verified before it is
used. A checkpoint that replaces another renames the old one to .old-NAME-PID first and removes it
when the new one is in place. If the writer dies in between, the old one is read.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import ml_dtypes  # noqa: F401  (registers bfloat16 with numpy; comes with jax)
import numpy as np

from parl.core import files
from parl.core.errors import CheckpointError, DamagedCheckpoint
from parl.core.files import sync
from parl.core.manifest import ARRAYS, Entry, check_sizes, entries_of, read_text
from parl.core.memory import available_memory

SCHEMA = 2
# Patterns of array names in schema 1, and their current names.
RENAMED = {r"^(run/learner|state)/train/": r"\1/algorithm_state/"}
UNUSABLE = ValueError, LookupError, TypeError, AttributeError, ArithmeticError
NONSENSE = (*UNUSABLE, RecursionError, MemoryError)  # errors that invalid content can cause
EMPTY = np.zeros(0, np.uint8)
ADDED = ("returns",)  # last parts of names that older versions did not save
BLANK = "0" * 64  # placeholder for the manifest's own checksum while it is computed


def sha256(data: Any) -> str:
    """Hex digest of bytes or a buffer."""
    return hashlib.sha256(data).hexdigest()


def is_key(x: Any) -> bool:
    """Whether an array holds typed random keys."""
    return isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by path, such as 'learner/algorithm_state/actor/params/Dense_0/kernel'."""
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def to_numpy(leaf: Any) -> np.ndarray:
    """A contiguous host array; random keys become their uint32 words."""
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf, order="C")


def params_sha256(arrays: dict[str, np.ndarray]) -> str:
    """Digest of all parameters in manifest order: names with a part 'params' but no part 'opt'."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        parts = name.split("/")  # moments of an optimiser have the names of the parameters
        if "params" in parts and "opt" not in parts:
            digest.update(to_numpy(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint in memory."""

    path: Path
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays whose names start with `prefix/`, keyed by the rest of the name."""
        start = prefix + "/"
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}

    def restore(self, prefix: str, template: Any) -> Any:
        """The tree saved under `prefix`, with the structure, shapes and dtypes of `template`.

        Leaves named in ADDED that the checkpoint lacks are taken from `template`. Raises
        CheckpointError if any other leaf is missing, unexpected or of another shape.
        """
        found, wanted = self.under(prefix), named_leaves(template)
        missing = wanted.keys() - found.keys()
        found |= {n: to_numpy(wanted[n]) for n in missing if n.rpartition("/")[2] in ADDED}
        if found.keys() != wanted.keys():
            odd = sorted(found.keys() ^ wanted.keys())[0]
            raise CheckpointError(
                f"{self.path} was written by a different program: '{prefix}/{odd}' is in only one "
                "of the checkpoint and this run; use the settings it was saved with."
            )
        leaves = [
            fitted(self.path, f"{prefix}/{name}", found[name], leaf)
            for name, leaf in wanted.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(template), leaves)


def fitted(place: Any, name: str, array: np.ndarray, leaf: Any) -> Any:
    """`array`, of `name` in `place`, in the type of `leaf`: numpy or jax, which round differently.

    Raises CheckpointError if its shape or dtype is another one.
    """
    expected = to_numpy(leaf)
    if array.shape != expected.shape or array.dtype != expected.dtype:
        raise CheckpointError(
            f"{place} holds '{name}' as {array.dtype}{list(array.shape)}, but this run has "
            f"{expected.dtype}{list(expected.shape)}; use the settings it was saved with."
        )
    if is_key(leaf):
        words = jax.numpy.asarray(array)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
    if isinstance(leaf, np.ndarray | np.generic):
        return np.array(array)[()]  # a writable copy; a scalar if it has no axes
    return jax.numpy.array(array)  # a copy: these buffers may be donated


def with_default(checkpoint: Checkpoint, name: str, array: np.ndarray) -> Checkpoint:
    """The checkpoint, with `array` under `name` if it does not hold one (as in older versions)."""
    return dataclasses.replace(checkpoint, arrays={name: array} | checkpoint.arrays)


def save(
    path: Path, tree: Any, meta: dict[str, Any], apart: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    """Writes a complete checkpoint, or raises CheckpointError and leaves the previous one intact.

    `tree` is any pytree of arrays and `meta` any JSON value. Each top-level part of the tree named
    in `apart` gets its own file. Returns the arrays by name.
    """
    if not may_be_replaced(path):
        raise CheckpointError(f"{path} holds something that is not a checkpoint; move it away.")
    arrays = {name: to_numpy(leaf) for name, leaf in named_leaves(tree).items()}
    temporary = path.with_name(f".writing-{path.name}-{os.getpid()}")
    try:
        with writing(path):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            entries = write_arrays(temporary, arrays, apart)
            write_manifest(temporary / "manifest.json", {"arrays": entries, "meta": meta})
            replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return arrays


def writing(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turns an OSError into a CheckpointError."""
    return files.writing(path, files.RESUME, CheckpointError)


def may_be_replaced(path: Path) -> bool:
    """Whether `path` is free or holds only a checkpoint, intact or damaged."""
    if not path.exists():
        return not path.is_symlink()
    return path.is_dir() and all(
        file.name == "manifest.json" or file.suffix == ".bin" for file in path.iterdir()
    )


def write_arrays(
    path: Path, arrays: dict[str, np.ndarray], apart: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Writes all arrays, one file for each part; returns their manifest entries."""
    files = {ARRAYS: list(arrays)}
    for part in apart:
        names = [name for name in arrays if name.startswith(part + "/")]
        files[ARRAYS] = [name for name in files[ARRAYS] if name not in set(names)]
        files |= {f"{part}.bin": names} if names else {}
    return [
        entry if file == ARRAYS else {"file": file} | entry
        for file, names in files.items()
        for entry in write_file(path / file, {name: arrays[name] for name in names})
    ]


def write_file(path: Path, arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Writes arrays one after the other; returns their manifest entries."""
    entries, offset = [], 0
    with path.open("wb") as file:
        for name, array in arrays.items():
            data = array.reshape(-1).view(np.uint8).data
            file.write(data)
            entry = {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
            entries.append(entry | {"offset": offset, "bytes": len(data), "sha256": sha256(data)})
            offset += len(data)
        sync(file)
    return entries


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON that holds its own checksum, computed with the checksum field blank."""
    text = json.dumps({"schema": SCHEMA, "checksum": BLANK} | content, indent=1)
    with path.open("w") as file:
        file.write(text.replace(BLANK, sha256(text.encode()), 1))
        sync(file)


def replace(temporary: Path, path: Path) -> None:
    """Renames a finished directory to its final name, replacing an older one."""
    old = path.with_name(f".old-{path.name}-{os.getpid()}")
    if path.exists():
        remove(left_by(path, "old"))
        path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    remove(left_by(path, "old"))
    remove(p for p in left_by(path, "writing") if not is_alive(int(p.name.rpartition("-")[2])))


def left_by(path: Path, kind: str) -> list[Path]:
    """Directories that writers of a checkpoint left behind, `old` or `writing`, newest first."""
    if not path.parent.is_dir():
        return []
    pattern = re.compile(rf"\.{kind}-{re.escape(path.name)}-\d+")
    found = [p for p in path.parent.iterdir() if pattern.fullmatch(p.name)]
    return sorted(found, key=lambda p: identity(p)[1:], reverse=True)


def identity(path: Path) -> tuple[Path, int, int]:
    """(path, modification time, inode): differs if a directory was replaced."""
    try:
        found = path.stat()
    except OSError:
        return path, 0, 0
    return path, found.st_mtime_ns, found.st_ino


def remove(directories: Iterable[Path]) -> None:
    """Removes directories, ignoring errors."""
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs on this machine."""
    try:
        with contextlib.suppress(PermissionError, OverflowError):  # another user's
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def standing(path: Path) -> Path:
    """The directory of the checkpoint `path`, or its backup if a writer died replacing it."""
    return path if path.exists() else next(iter(left_by(path, "old")), path)


def forget(path: Path, part: str) -> None:
    """Removes a part that has its own file, if it exists. Raises CheckpointError."""
    name = f"{part}.bin"
    with rewritten(path) as manifest:
        manifest["arrays"] = [e for e in manifest["arrays"] if e.get("file") != name]
    with contextlib.suppress(OSError):
        (path / name).unlink()


def amend(path: Path, changes: dict[str, Any]) -> None:
    """Updates entries of the metadata. Raises CheckpointError."""
    with rewritten(path) as manifest:
        manifest["meta"] |= changes


@contextlib.contextmanager
def rewritten(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the content of a manifest to change, then replaces the file by one rename."""
    temporary = path / ".writing.bin"
    try:
        with writing(path / "manifest.json"):
            manifest = read_manifest(path / "manifest.json")
            content = {name: manifest[name] for name in ("arrays", "meta")}
            yield content
            write_manifest(temporary, content)
            temporary.replace(path / "manifest.json")
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read(path: Path, without: Iterable[str] = (), mapped: bool = False) -> Checkpoint:
    """Reads and verifies all parts except those in `without`, which must have their own files.

    With `mapped` the arrays are memory-mapped, so the files must stay in place. Raises
    DamagedCheckpoint if a byte differs from what was written or the content is not valid.
    """
    place = standing(path)
    before = identity(place)
    try:
        manifest = read_manifest(place / "manifest.json")
        left_out = {f"{part}.bin" for part in without}
        entries = [e for e in entries_of(manifest) if e.file not in left_out]
        check_sizes(place, entries, sys.maxsize if mapped else available_memory())
        names = {e.file for e in entries if e.bytes}
        load = partial(np.memmap, mode="r") if mapped else np.fromfile
        files = {name: load(place / name, np.uint8) for name in names}
        arrays = {e.name: read_array(place, files.get(e.file, EMPTY), e) for e in entries}
        return Checkpoint(path, manifest["meta"], arrays)
    except (DamagedCheckpoint, OSError, *NONSENSE) as error:
        if identity(standing(path)) != before:  # it was replaced meanwhile
            return read(path, without, mapped)
        if isinstance(error, DamagedCheckpoint):
            raise
        raise DamagedCheckpoint(f"{path} is not a readable checkpoint: {error}.") from error


def read_meta(path: Path) -> dict[str, Any]:
    """Only the metadata. Raises DamagedCheckpoint."""
    try:
        manifest = read_manifest(standing(path) / "manifest.json")
        entries_of(manifest)
        return manifest["meta"]
    except (OSError, *NONSENSE) as error:
        raise DamagedCheckpoint(f"{path} is not a readable checkpoint: {error}.") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest's JSON, once its checksum is verified."""
    text = read_text(path)
    manifest = json.loads(text)
    if not isinstance(manifest, dict) or manifest.get("schema") not in (1, SCHEMA):
        raise DamagedCheckpoint(f"{path} is not a manifest of schema {SCHEMA}.")
    checksum = str(manifest["checksum"])
    if sha256(text.replace(checksum.encode(), BLANK.encode(), 1)) != checksum:
        raise DamagedCheckpoint(f"{path} is corrupt: its checksum does not match.")
    return manifest if manifest["schema"] == SCHEMA else with_new_names(manifest)


def with_new_names(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest of schema 1 with the current names of its arrays."""
    entries = manifest["arrays"]
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            for old, new in RENAMED.items():
                entry["name"] = re.sub(old, new, entry["name"])
    return manifest


def read_array(path: Path, data: np.ndarray, entry: Entry) -> np.ndarray:
    """One array, once its sha256 is verified."""
    part = data[entry.offset : entry.offset + entry.bytes]
    if sha256(part.data) != entry.sha256:
        raise DamagedCheckpoint(f"{path} is corrupt: '{entry.name}' fails its sha256.")
    return part.view(entry.dtype).reshape(entry.shape)
