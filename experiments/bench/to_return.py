"""Wall-clock time to a greedy return: our recipe beside SBX' algorithms with their zoo's settings.

    python experiments/bench/to_return.py --sbx PYTHON --env HalfCheetah-v5 --target 5000
    python experiments/bench/to_return.py --sbx PYTHON --env Hopper-v5 --target 2500 --seeds 3

PYTHON is the interpreter of a throw-away environment with SBX (peers/stable_off_policy.py says how
to make one). Seed by seed, each algorithm trains alone until a greedy evaluation of 10 episodes
reaches the target, or until --limit seconds have passed; SBX evaluates every 5,000 steps, we every
--every. Our clock counts all from the start of the process, compilation and evaluations included;
that of SBX stops in evaluations, so it is killed only after half as long again. Prints a Markdown
table of seconds; --out takes all evaluations as CSV, with the table and a picture beside it. Runs
that are there already are not made again.
"""

import argparse
import csv
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

from parl.report.plotting import COLORS, PALE, decorate, new_figure, save

HERE = Path(__file__).parent
EVERY, EPISODES = 5_000, 10  # steps between SBX' evaluations, and episodes of each
GRACE = 1.5  # wall time for SBX in limits: that on its own clock, and evaluations


class Evaluation(NamedTuple):
    """A point of a learning curve."""

    algorithm: str
    seed: int
    env_steps: int
    seconds: float
    return_mean: float


def ours(
    arguments: argparse.Namespace, algorithm: str, seed: int
) -> Generator[Evaluation, None, None]:
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
            over = False
            while not over:
                over = training.poll() is not None
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


def sbx(
    arguments: argparse.Namespace, algorithm: str, seed: int
) -> Generator[Evaluation, None, None]:
    """The evaluations of one of SBX' runs, as they come; the last once more when time is up."""
    command = [
        *(arguments.sbx, str(HERE / "peers" / "sbx_to_return.py"), "--algorithm", algorithm),
        *("--env", arguments.env, "--target", str(arguments.target), "--seed", str(seed)),
        *("--eval-every", str(EVERY), "--eval-episodes", str(EPISODES)),
    ]
    training = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert training.stdout is not None
    alarm = threading.Timer(GRACE * arguments.limit, training.terminate)
    alarm.start()
    last = Evaluation(f"SBX {algorithm}", seed, 0, 0.0, -math.inf)
    try:
        for line in training.stdout:
            row = json.loads(line)
            steps, mean = int(row["env_steps"]), row["return_mean"]
            last = last._replace(env_steps=steps, seconds=row["seconds"], return_mean=mean)
            yield last
        if (code := training.wait()) == -signal.SIGTERM:
            yield last._replace(seconds=arguments.limit)
        elif code:
            sys.exit(f"{' '.join(command)} failed.")
    finally:
        alarm.cancel()
        stop(training)


def stop(training: subprocess.Popen) -> None:
    """Ends a run that has shown what it had to."""
    if training.poll() is None:
        training.send_signal(signal.SIGTERM)
        training.wait()


def until(
    evaluations: Generator[Evaluation, None, None], target: float, limit: float
) -> list[Evaluation]:
    """The evaluations up to the first that reaches the target, or until the time is up."""
    seen: list[Evaluation] = []
    for evaluation in evaluations:
        seen.append(evaluation)
        if evaluation.return_mean >= target or evaluation.seconds >= limit:
            break
    evaluations.close()  # ends the run
    return seen


Runs = dict[tuple[str, int], list[Evaluation]]  # by algorithm and seed


def table(runs: Runs, target: float) -> str:
    """Seconds and steps of each seed and the mean of the seconds, bounds where one failed."""
    lines = ["| algorithm | seconds of each seed (steps) | mean |", "|---|---|---|"]
    for algorithm in dict.fromkeys(name for name, _ in runs):
        curves = [curve for (name, _), curve in runs.items() if name == algorithm]
        failed = any(curve[-1].return_mean < target for curve in curves)
        mean = statistics.mean(curve[-1].seconds for curve in curves)
        cells = ", ".join(cell(curve, target) for curve in curves)
        lines.append(f"| {algorithm} | {cells} | **{'>' * failed}{mean:,.0f}** |")
    return "\n".join(lines)


def cell(curve: list[Evaluation], target: float) -> str:
    """What one run took, or how far it came."""
    last = curve[-1]
    if last.return_mean >= target:
        return f"{last.seconds:,.0f} ({last.env_steps:,})"
    best = max(each.return_mean for each in curve)
    come = f"{last.env_steps:,}, best {best:,.0f}" if best > -math.inf else "none evaluated"
    return f">{last.seconds:,.0f} ({come})"


def draw(runs: Runs, title: str, target: float, file: Path) -> None:
    """Returns over seconds, a line for each run."""
    figure, axes = new_figure(title, f"time to a greedy return of {target:,.0f}")
    names = list(dict.fromkeys(name for name, _ in runs))
    for name, color in zip(names, COLORS, strict=False):
        label: str | None = name
        for curve in (curve for (algorithm, _), curve in runs.items() if algorithm == name):
            curve = [point for point in curve if point.return_mean > -math.inf]
            seconds, returns = [x.seconds for x in curve], [x.return_mean for x in curve]
            axes.plot(seconds, returns, color=color, marker="o", markersize=3, label=label)
            label = None
    axes.axhline(target, color=PALE, linewidth=1, linestyle="--")
    decorate(axes, "greedy evaluation return")
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds")
    save(figure, file)


def read(file: Path | None) -> Runs:
    """The runs of an earlier call."""
    runs: Runs = {}
    if file and file.exists():
        with file.open(newline="") as rows:
            for name, seed, steps, seconds, mean in list(csv.reader(rows))[1:]:
                point = Evaluation(name, int(seed), int(steps), float(seconds), float(mean))
                runs.setdefault((name, int(seed)), []).append(point)
    return runs


def write(runs: Runs, file: Path, title: str, target: float) -> None:
    """All points of all curves, the table and the picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as out:
        rows: Any = csv.writer(out, lineterminator="\n")
        rows.writerow(Evaluation._fields)
        rows.writerows(point for curve in runs.values() for point in curve)
    file.with_suffix(".md").write_text(f"{title}\n\n{table(runs, target)}\n")
    draw(runs, title, target, file.with_suffix(".png"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sbx", default="python", help="interpreter of an environment with SBX")
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--target", type=float, default=5000.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ours", nargs="*", default=["auto"])
    parser.add_argument("--every", type=int, default=5_000, help="steps between our evaluations")
    parser.add_argument("--peers", nargs="*", default=["sac", "tqc", "crossq", "droq"])
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds of a run")
    parser.add_argument("--out", type=Path, help="CSV of all evaluations")
    arguments = parser.parse_args()
    target, cores = arguments.target, len(os.sched_getaffinity(0))
    title = f"{arguments.env}, {cores} core{'s' * (cores > 1)}"
    runs = read(arguments.out)
    for seed in range(arguments.seeds):
        for run, names in ((ours, arguments.ours), (sbx, arguments.peers)):
            for name in names:
                key = (name if run is ours else f"SBX {name}", seed)
                if key not in runs:
                    runs[key] = until(run(arguments, name, seed), target, arguments.limit)
                    print(f"{key[0]}, seed {seed}: {cell(runs[key], target)}", flush=True)
                    if arguments.out:
                        write(runs, arguments.out, title, target)
    print(table(runs, target))


if __name__ == "__main__":
    main()
