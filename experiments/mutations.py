"""Damaged checkpoints: none may be taken for a good one.

    python experiments/mutations.py --count 1000

Trains two tiny runs, damages a checkpoint of the first in `count` random ways, and loads each.
Prints a Markdown table by kind of damage and exits with 1 if any of them went unnoticed. Damage is
what disks, crashes and mixed-up copies do; a forger who makes the checksums right is not meant.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import parl
from parl.core.errors import CheckpointError
from parl.runs.directory import RunDir

Random = np.random.Generator
Files = dict[str, bytes]  # name -> content
MANIFEST, ARRAYS = "manifest.json", "arrays.bin"
SECTOR = 512  # bytes that a disk writes at once


class Checkpoints(NamedTuple):
    """What there is to damage and to mix up."""

    good: Files
    earlier: Files  # of the same run
    foreign: Files  # of a run with another seed


def change(files: Files, random: Random, edit: Callable[[bytearray], Any]) -> Files:
    """The files with one of them edited, each as likely as the other."""
    name = str(random.choice(sorted(files)))
    data = bytearray(files[name])
    edit(data)
    return files | {name: bytes(data)}


def flip_bit(found: Checkpoints, random: Random) -> Files:
    def edit(data: bytearray) -> None:
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))

    return change(found.good, random, edit)


def overwrite(found: Checkpoints, random: Random) -> Files:
    """Some bytes are others."""

    def edit(data: bytearray) -> None:
        place, length = random.integers(len(data)), random.integers(1, 64)
        data[place : place + length] = random.bytes(len(data[place : place + length]))

    return change(found.good, random, edit)


def lose_sector(found: Checkpoints, random: Random) -> Files:
    """A sector was never written, and reads as zeros."""

    def edit(data: bytearray) -> None:
        place = SECTOR * int(random.integers(-(-len(data) // SECTOR)))
        data[place : place + SECTOR] = bytes(len(data[place : place + SECTOR]))

    return change(found.good, random, edit)


def truncate(found: Checkpoints, random: Random) -> Files:
    def edit(data: bytearray) -> None:
        del data[random.integers(len(data)) :]

    return change(found.good, random, edit)


def append(found: Checkpoints, random: Random) -> Files:
    return change(found.good, random, lambda data: data.extend(random.bytes(4)))


def cut(found: Checkpoints, random: Random) -> Files:
    """Some bytes in the middle are gone, the rest has moved up."""

    def edit(data: bytearray) -> None:
        place = random.integers(len(data))
        del data[place : place + int(random.integers(1, 16))]

    return change(found.good, random, edit)


def swap_arrays(found: Checkpoints, random: Random) -> Files:
    """Two arrays of one size change places, such as a network and its target."""
    entries = json.loads(found.good[MANIFEST])["arrays"]
    size = int(random.choice([entry["bytes"] for entry in entries]))
    same = [entry["offset"] for entry in entries if entry["bytes"] == size > 0]
    if len(same) < 2:
        return found.good
    a, b = (int(x) for x in random.choice(same, 2, replace=False))
    data = bytearray(found.good[ARRAYS])
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return found.good | {ARRAYS: bytes(data)}


def swap_files(found: Checkpoints, random: Random) -> Files:
    return {MANIFEST: found.good[ARRAYS], ARRAYS: found.good[MANIFEST]}


def mix_with_earlier(found: Checkpoints, random: Random) -> Files:
    """One or both files are those of the run's checkpoint before."""
    return mix(found.good, found.earlier, random)


def mix_with_foreign(found: Checkpoints, random: Random) -> Files:
    """One or both files are those of another run."""
    return mix(found.good, found.foreign, random)


def mix(good: Files, other: Files, random: Random) -> Files:
    names = [[MANIFEST], [ARRAYS], [MANIFEST, ARRAYS]][random.integers(3)]
    return good | {name: other[name] for name in names}


def remove(found: Checkpoints, random: Random) -> Files:
    """One or both files are missing."""
    return {name: found.good[name] for name in [[MANIFEST], [ARRAYS], []][random.integers(3)]}


def edit_manifest(found: Checkpoints, random: Random) -> Files:
    """Somebody changed a value by hand; or an editor saved it in its own style."""
    manifest = json.loads(found.good[MANIFEST])
    if random.random() < 0.1:
        return found.good | {MANIFEST: json.dumps(manifest, indent=2).encode()}
    entry: Any = manifest
    while True:
        names = list(entry) if isinstance(entry, dict) else list(range(len(entry)))
        name = names[random.integers(len(names))]
        if not (isinstance(entry[name], dict | list) and entry[name]):
            break
        entry = entry[name]
    value = entry[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    entry[name] = value + 1 if number else None if value else "edited"
    return found.good | {MANIFEST: json.dumps(manifest, indent=1).encode()}


KINDS: dict[str, Callable[[Checkpoints, Random], Files]] = {
    "one bit flipped": flip_bit,
    "bytes overwritten": overwrite,
    "sector lost": lose_sector,
    "truncated": truncate,
    "bytes appended": append,
    "bytes cut out": cut,
    "arrays swapped": swap_arrays,
    "files swapped": swap_files,
    "files of an earlier checkpoint": mix_with_earlier,
    "files of another run": mix_with_foreign,
    "file missing": remove,
    "manifest edited": edit_manifest,
}


def read_files(path: Path) -> Files:
    return {name: (path / name).read_bytes() for name in (MANIFEST, ARRAYS)}


def write_files(path: Path, files: Files) -> None:
    for name in (MANIFEST, ARRAYS):
        (path / name).unlink(missing_ok=True)
        if name in files:
            (path / name).write_bytes(files[name])


def mutate(runs: tuple[Path, Path], count: int, seed: int = 0) -> dict[str, Counter[str]]:
    """Damages the last checkpoint of the first run; how often each kind was detected or missed."""
    directory, random = RunDir(runs[0]), np.random.default_rng(seed)
    steps, run_id = directory.saved(), directory.config().run_id
    path = directory.checkpoints / str(steps[-1])
    other = RunDir(runs[1])
    found = Checkpoints(
        read_files(path),
        read_files(directory.checkpoints / str(steps[-2])),
        read_files(other.checkpoints / str(other.saved()[-1])),
    )
    results = {kind: Counter[str]() for kind in KINDS}
    names = list(KINDS)
    for i in range(count):
        kind, files = names[i % len(names)], found.good
        while files == found.good:  # a lost sector may have held zeros
            files = KINDS[kind](found, random)
        write_files(path, files)
        try:
            directory.checked(steps[-1], run_id)
        except CheckpointError:
            results[kind]["detected"] += 1
        except Exception as error:  # anything else would end a resume that has a way on
            results[kind][f"missed: {type(error).__name__}"] += 1
        else:
            results[kind]["missed: loaded"] += 1
    write_files(path, found.good)
    directory.checked(steps[-1], run_id)
    return results


def train(out: Path) -> tuple[Path, Path]:
    """Two runs of the same kind, with replay, statistics, optimiser states and environments."""
    settings = {"hidden": (16,), "batch_size": 8, "warmup": 64, "capacity": 512}
    steps = {"steps": 384, "eval_every": 128, "eval_episodes": 1}
    for seed in (0, 1):
        parl.train(
            "sac", "jax:Pendulum-v1", out / str(seed), quiet=True, seed=seed, **steps, **settings
        )
    return out / "0", out / "1"


def table(results: dict[str, Counter[str]]) -> str:
    """Markdown."""
    lines = ["| damage | checkpoints | detected | missed |", "| --- | --: | --: | --- |"]
    for kind, counts in results.items():
        missed = ", ".join(f"{n} {name[8:]}" for name, n in counts.items() if name != "detected")
        lines.append(f"| {kind} | {counts.total()} | {counts['detected']} | {missed or 0} |")
    total = sum(results.values(), Counter[str]())
    detected = total["detected"]
    lines.append(f"| all | {total.total()} | {detected} | {total.total() - detected} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        results = mutate(train(Path(out)), arguments.count, arguments.seed)
    print(table(results))
    return int(any(name != "detected" for counts in results.values() for name in counts))


if __name__ == "__main__":
    sys.exit(main())
