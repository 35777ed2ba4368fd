"""Checkpoints: a directory with one JSON manifest and one file of raw arrays, never pickle.

    <path>/manifest.json   schema version, checksum of itself, metadata, and for each array
                           its name, dtype, shape, place in the file and sha256
    <path>/arrays.bin      the arrays, little-endian, one after the other

A checkpoint appears under its name by one rename or not at all. Whatever is read is verified first.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_dtypes  # noqa: F401  (registers bfloat16 with numpy; comes with jax)
import numpy as np

from parl.core.errors import CheckpointError

SCHEMA = 1
BLANK = "0" * 64  # stands in for the manifest's own checksum while that is computed


def sha256(data: Any) -> str:
    """Hex digest of bytes or a buffer."""
    return hashlib.sha256(data).hexdigest()


def is_key(x: Any) -> bool:
    """Whether an array holds typed random keys."""
    return isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by path, such as 'learner/train/actor/params/Dense_0/kernel'."""
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def to_numpy(leaf: Any) -> np.ndarray:
    """A contiguous host array; random keys become their words."""
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf, order="C")


def params_sha256(arrays: dict[str, np.ndarray]) -> str:
    """Digest of all parameters (names with a part 'params', not below 'opt'), in manifest order."""
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
        """The arrays whose names start with `prefix/`, without it."""
        start = prefix + "/"
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}

    def restore(self, prefix: str, template: Any) -> Any:
        """The tree saved under `prefix`, in the structure, shapes and dtypes of `template`.

        Raises CheckpointError where anything is missing, left over or of another shape.
        """
        found, wanted = self.under(prefix), named_leaves(template)
        if found.keys() != wanted.keys():
            odd = sorted(found.keys() ^ wanted.keys())[0]
            raise CheckpointError(
                f"{self.path} was written by a different program: '{prefix}/{odd}' is in only one "
                "of the checkpoint and this run; use the settings it was saved with."
            )
        leaves = [self.fit(f"{prefix}/{name}", found[name], leaf) for name, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    def fit(self, name: str, array: np.ndarray, leaf: Any) -> Any:
        """`array` as what `leaf` is: of numpy, which counts otherwise in last bits, or of jax."""
        expected = to_numpy(leaf)
        if array.shape != expected.shape or array.dtype != expected.dtype:
            raise CheckpointError(
                f"{self.path} holds '{name}' as {array.dtype}{list(array.shape)}, but this run has "
                f"{expected.dtype}{list(expected.shape)}; use the settings it was saved with."
            )
        if is_key(leaf):
            words = jax.numpy.asarray(array)
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
        if isinstance(leaf, np.ndarray | np.generic):
            return np.array(array)[()]  # a copy: it may be written to; a number where it is one
        return jax.numpy.array(array)  # a copy: these buffers may be donated


def save(path: Path, tree: Any, meta: dict[str, Any]) -> dict[str, np.ndarray]:
    """Writes a checkpoint whole, or raises CheckpointError and leaves what was there before.

    `tree` is any pytree of arrays, `meta` anything JSON can hold. Returns the arrays by name.
    """
    arrays = {name: to_numpy(leaf) for name, leaf in named_leaves(tree).items()}
    temporary = path.with_name(f".writing-{path.name}-{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        entries = write_arrays(temporary / "arrays.bin", arrays)
        write_manifest(temporary / "manifest.json", {"arrays": entries, "meta": meta})
        replace(temporary, path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"could not write {path}: {error.strerror or error}; earlier checkpoints are intact, "
            "make room or choose another --out and resume."
        ) from error
    return arrays


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Appends all arrays to one file; returns their manifest entries."""
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
    """Writes JSON that carries its own checksum, computed with the checksum blank."""
    text = json.dumps({"schema": SCHEMA, "checksum": BLANK} | content, indent=1)
    with path.open("w") as file:
        file.write(text.replace(BLANK, sha256(text.encode()), 1))
        sync(file)


def sync(file: Any) -> None:
    """Brings a file to the disk before the rename that publishes it."""
    file.flush()
    os.fsync(file.fileno())


def replace(temporary: Path, path: Path) -> None:
    """Renames a finished directory to its name, in place of an older one if there is any."""
    old = path.with_name(f".old-{path.name}-{os.getpid()}")
    if path.exists():
        path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def read(path: Path) -> Checkpoint:
    """Reads and verifies everything. Raises CheckpointError where a byte is not as written."""
    try:
        manifest = read_manifest(path / "manifest.json")
        data = np.fromfile(path / "arrays.bin", np.uint8)
        if data.nbytes != sum(entry["bytes"] for entry in manifest["arrays"]):
            raise CheckpointError(f"{path} is corrupt: arrays.bin does not have its full length.")
        arrays = {entry["name"]: read_array(path, data, entry) for entry in manifest["arrays"]}
        return Checkpoint(path, manifest["meta"], arrays)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}.") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest's JSON, after its checksum was verified."""
    text = path.read_bytes()
    manifest = json.loads(text)
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is not a manifest of schema {SCHEMA}.")
    checksum = str(manifest["checksum"])
    if sha256(text.replace(checksum.encode(), BLANK.encode(), 1)) != checksum:
        raise CheckpointError(f"{path} is corrupt: its checksum does not match.")
    return manifest


def read_array(path: Path, data: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    """One array, after its sha256 was verified."""
    part = data[entry["offset"] : entry["offset"] + entry["bytes"]]
    if sha256(part.data) != entry["sha256"]:
        raise CheckpointError(f"{path} is corrupt: '{entry['name']}' fails its sha256.")
    return part.view(np.dtype(entry["dtype"])).reshape(entry["shape"])
