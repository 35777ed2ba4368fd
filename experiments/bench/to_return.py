"""Wall-clock time to a greedy return: our recipe beside SBX' algorithms with their zoo's settings.

    python experiments/bench/to_return.py --sbx PYTHON --env HalfCheetah-v5 --target 5000
    python experiments/bench/to_return.py --sbx PYTHON --env Hopper-v5 --target 2500 --seeds 3

PYTHON is the interpreter of a throw-away environment with SBX (peers/stable_off_policy.py says how
to make one). Seed by seed, each algorithm trains alone until a greedy evaluation of 10 episodes
reaches the target, or until --limit seconds have passed; SBX evaluates every 5,000 steps, we every
--every. Our clock counts all from the start of the process, compilation and evaluations included;
that of SBX stops in evaluations. Prints a Markdown table of seconds, and writes all evaluations as
CSV to --out.
"""

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
EVERY, EPISODES = 5_000, 10  # steps between SBX' evaluations, and episodes of each


class Evaluation(NamedTuple):
    """A point of a learning curve."""

    algorithm: str
    seed: int
    env_steps: int
    seconds: float
    return_mean: float


def ours(arguments: argparse.Namespace, algorithm: str, seed: int) -> Iterator[Evaluation]:
    """The evaluations of one of our runs, as they come."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "parl.cli", "train", algorithm, "--env", arguments.env),
            *("--steps", "1000000", "--eval-episodes", str(EPISODES)),
            *("--eval-every", str(arguments.every), "--seed", str(seed)),
            *("--checkpoint-every", "1000000", "--out", f"{folder}/run"),
        ]
        start, seen = time.perf_counter(), 0
        log = Path(folder) / "log"
        with log.open("w") as out:
            training = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            while training.poll() is None:
                time.sleep(0.2)
                file = Path(folder) / "run" / "metrics.jsonl"
                lines = file.read_text().split("\n")[:-1] if file.exists() else []
                for row in map(json.loads, lines[seen:]):
                    if (mean := row.get("eval/return_mean")) is not None:
                        seconds = time.perf_counter() - start
                        yield Evaluation(algorithm, seed, row["env_steps"], seconds, mean)
                seen = len(lines)
            if training.returncode:
                sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
        finally:
            stop(training)


def sbx(arguments: argparse.Namespace, algorithm: str, seed: int) -> Iterator[Evaluation]:
    """The evaluations of one of SBX' runs, as they come."""
    command = [
        *(arguments.sbx, str(HERE / "peers" / "sbx_to_return.py"), "--algorithm", algorithm),
        *("--env", arguments.env, "--target", str(arguments.target), "--seed", str(seed)),
        *("--eval-every", str(EVERY), "--eval-episodes", str(EPISODES)),
    ]
    training = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert training.stdout is not None
    try:
        for line in training.stdout:
            row = json.loads(line)
            steps, mean = int(row["env_steps"]), row["return_mean"]
            yield Evaluation(f"SBX {algorithm}", seed, steps, row["seconds"], mean)
    finally:
        stop(training)


def stop(training: subprocess.Popen) -> None:
    """Ends a run that has shown what it had to."""
    if training.poll() is None:
        training.send_signal(signal.SIGTERM)
        training.wait()


def until(evaluations: Iterator[Evaluation], target: float, limit: float) -> list[Evaluation]:
    """The evaluations up to the first that reaches the target, or until the time is up."""
    seen: list[Evaluation] = []
    for evaluation in evaluations:
        seen.append(evaluation)
        if evaluation.return_mean >= target or evaluation.seconds > limit:
            break
    evaluations.close()  # type: ignore[attr-defined]  # they are generators: ends the run
    return seen


def row(runs: list[list[Evaluation]], target: float) -> str:
    """A line of the table: the seconds of each seed and their mean, a bound where one failed."""
    cells, seconds, failed = [], [], False
    for run in runs:
        last, reached = run[-1], run[-1].return_mean >= target
        failed |= not reached
        seconds.append(last.seconds)
        best = max(each.return_mean for each in run)
        much = "" if reached else f", best {best:,.0f}"
        cells.append(f"{'' if reached else '>'}{last.seconds:,.0f} ({last.env_steps:,}{much})")
    mean = f"{'>' * failed}{statistics.mean(seconds):,.0f}"
    return f"| {runs[0][0].algorithm} | {', '.join(cells)} | **{mean}** |"


def write(file: Path, evaluations: list[Evaluation]) -> None:
    """All points of all curves."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as out:
        rows: Any = csv.writer(out, lineterminator="\n")
        rows.writerow(Evaluation._fields)
        rows.writerows(evaluations)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sbx", default="python", help="interpreter of an environment with SBX")
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--target", type=float, default=5000.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--ours", nargs="*", default=["auto"])
    parser.add_argument("--every", type=int, default=5_000, help="steps between our evaluations")
    parser.add_argument("--peers", nargs="*", default=["sac", "tqc", "crossq", "droq"])
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds of a run")
    parser.add_argument("--out", type=Path, help="CSV of all evaluations")
    arguments = parser.parse_args()
    print(f"{arguments.env} to {arguments.target:,.0f}, {len(os.sched_getaffinity(0))} cores\n")
    print("| algorithm | seconds of each seed (steps) | mean |\n|---|---|---|", flush=True)
    everything: list[Evaluation] = []
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for run, names in ((ours, arguments.ours), (sbx, arguments.peers)):
        for name in names:
            runs = []
            for seed in seeds:
                curve = until(run(arguments, name, seed), arguments.target, arguments.limit)
                runs.append(curve)
                everything += curve
                if arguments.out:
                    write(arguments.out, everything)
            print(row(runs, arguments.target), flush=True)


if __name__ == "__main__":
    main()
