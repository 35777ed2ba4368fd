"""A made-up data set of ten million steps: the most memory that checking it and learning take.

python experiments/large_data.py DIR [--steps 10000000] [--updates 100]

Each command runs in a process of its own, whose largest resident set is printed.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from parl.core.spec import Box, EnvSpec
from parl.datasets.card import card_for
from parl.datasets.episode import Episode
from parl.datasets.writer import SHARD_STEPS, Writer

LENGTH = 1_000  # steps of an episode
SPEC = EnvSpec("made-up", Box((8,)), Box((2,), low=-1.0, high=1.0), max_steps=LENGTH)
GIB = 2**20  # of the kibibytes that the system counts in


def episode(rng: np.random.Generator) -> Episode:
    """Random numbers, cut at the time limit."""
    normal = lambda *shape: rng.standard_normal(shape, np.float32)
    action = rng.uniform(-1, 1, (LENGTH, 2)).astype(np.float32)
    none = np.zeros(LENGTH, bool)
    return Episode(normal(LENGTH + 1, 8), action, normal(LENGTH), none, np.arange(LENGTH) == 999)


def make(path: Path, steps: int) -> None:
    """Writes the data set."""
    rng = np.random.default_rng(0)
    with Writer(path, card_for(SPEC, SPEC.id)) as writer:
        for _ in range(0, steps, SHARD_STEPS):
            writer.add([episode(rng) for _ in range(SHARD_STEPS // LENGTH)])
            writer.flush()


def measured(command: list[str]) -> None:
    """Runs a command of parl and prints its time and memory."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "parl.cli", *command])
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    cpu = used.ru_utime + used.ru_stime
    told = f"{used.ru_maxrss / GIB:.2f} GiB, {seconds:.0f} s, {cpu:.0f} s of processor time"
    print(f"parl {' '.join(command[:2])}: {told}, exit {status}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--updates", type=int, default=100)
    flags = parser.parse_args()
    data, run = flags.dir / "data", flags.dir / "run"
    if not (data / "card.json").exists():
        maker = multiprocessing.get_context("spawn").Process(target=make, args=(data, flags.steps))
        maker.start()
        maker.join()
    shutil.rmtree(run, ignore_errors=True)
    measured(["data", "check", str(data)])
    learning = ["--data", str(data), "--steps", str(flags.updates), "--out", str(run)]
    measured(["train", "bc", *learning])


if __name__ == "__main__":
    main()
