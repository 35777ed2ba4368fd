"""CPU seconds of a sweep beside as many calls of `parl train`, which load and set up anew.

    python experiments/bench/sweep.py ppo --env jax:CartPole-v1 --steps 50000 --num-trials 32

Both have a warm compilation cache: one trial is run before. Calls are measured on `--calls` trials
of one seed each, in turn with nothing else, and multiplied; the sweep is measured whole.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("algorithm")
    parser.add_argument("--env", required=True)
    parser.add_argument("--steps", default="50000")
    parser.add_argument("--num-trials", type=int, default=32)
    parser.add_argument("--num-seeds", type=int, default=4)
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--over", default="learning_rate=1e-4:1e-2:log")
    given, more = parser.parse_known_args()
    folder = Path(tempfile.mkdtemp(prefix="parl-bench-sweep-"))
    parl = [sys.executable, "-m", "parl.cli"]
    common = [given.algorithm, "--env", given.env, "--steps", given.steps, "--quiet", *more]

    def call(number: int) -> float:
        rate = str(1e-4 * (number + 1))
        own = ["--learning-rate", rate, "--out", str(folder / f"call-{number}")]
        return cpu_seconds([*parl, "train", *common, *own])

    def sweep(name: str, count: int) -> float:
        own = ["--over", given.over, "--num-trials", str(count), "--out", str(folder / name)]
        seeds = ["--num-seeds", str(given.num_seeds)]
        return cpu_seconds([*parl, "sweep", *common, *own, *seeds])

    call(0), sweep("warm", 1)  # fills the cache
    calls = [call(number) for number in range(1, given.calls + 1)]
    one = sum(calls) / len(calls)
    whole = sweep("whole", given.num_trials)
    count = given.num_trials * given.num_seeds
    print(
        f"{count} calls of parl train: {one:.1f} s each (mean of {len(calls)}), {one * count:.0f}"
    )
    print(f"parl sweep, {given.num_trials} trials of {given.num_seeds} seeds: {whole:.0f} s")
    print(f"ratio {one * count / whole:.1f}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
