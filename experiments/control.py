"""Studies of continuous control: trains a table of cells, and writes what came of it.

    python experiments/control.py --study heavy --out runs/control
    python experiments/control.py --study heavy --list
    python experiments/control.py --study my-table.yaml --out runs/mine --results runs/mine/results

A study is a file of studies/, or one of your own; study.py says what is in it. Its cells run one
after the other, the seeds of each as one program. Kill it at any moment, and go on with the same
command: finished cells are skipped, the one under way resumes from its last checkpoint. After each
cell the results are written anew: STUDY.csv (returns of each seed), STUDY.md (the table, beside the
published rows of reference/control.csv) and STUDY-ENV.png. They are drawn from cells/NAME.json,
which stay with the results: the next cell may run on another machine.
"""

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import study_report
from flops import gflop_per_step
from study import NOTE, Cell, Study, load

import parl
from parl.core.errors import ConfigError, ParlError
from parl.core.files import write_json
from parl.runs.directory import RunDir

HERE = Path(__file__).parent
STOPPED = 128  # exit codes beyond it are those of signals


def train(cell: Cell, path: Path) -> None:
    """Brings a cell's run to its end from wherever it stands."""
    finished = (path / "result.json").exists()
    note(cell, path, finished)
    if finished:
        return
    if RunDir(path).saved():
        parl.resume(path, quiet=True)
        return
    for left in path.glob("*"):  # of a run that was killed before its first checkpoint
        if left.name != NOTE:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    parl.train(cell.algorithm, cell.env, out=path, quiet=True, **cell.settings)


def note(cell: Cell, path: Path, finished: bool) -> None:
    """Writes down what runs here, and with which code.

    Raises ConfigError where another cell ran before.
    """
    file = path / NOTE
    wanted = cell.identity
    found = json.loads(file.read_text()) if file.exists() else wanted | {"commits": []}
    if odd := [name for name in wanted if found[name] != wanted[name]]:
        raise ConfigError(
            f"{path} was begun with {odd[0]} {found[odd[0]]}, but the study says "
            f"{wanted[odd[0]]}: delete it or choose another --out."
        )
    if finished:
        return
    commits = list(dict.fromkeys([*found["commits"], commit()]))
    path.mkdir(parents=True, exist_ok=True)
    gflop = round(gflop_per_step(cell.parts()), 4)
    cores = usable_cores()
    device = f"{cores} core{'s' * (cores > 1)}, {jax.devices()[0].device_kind}"
    more = {"commits": commits, "gflop_per_step": gflop, "device": device}
    write_json(file, wanted | more)


def usable_cores() -> int:
    """Those that this process may run on, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str:
    """The commit of this code, with a + where the package has changes since."""
    git = lambda *words: subprocess.run(
        ["git", "-C", str(HERE.parent), *words], capture_output=True, text=True
    )
    try:
        name = git("rev-parse", "--short", "HEAD").stdout.strip()
        changed = git("diff", "--quiet", "HEAD", "--", "parl").returncode == 1
    except FileNotFoundError:  # without git
        return "unknown"
    return (name or "unknown") + "+" * changed


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Nobody else works on the same runs meanwhile. Raises ConfigError if somebody does."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a kill lets go of it
        except OSError as error:
            raise ConfigError(f"another study is running in {out}.") from error
        yield


def run(study: Study, cells: list[Cell], out: Path, results: Path) -> int:
    """Trains the cells in turn; returns the exit code."""
    failed = 0
    for number, cell in enumerate(cells, 1):
        path = out / cell.name
        print(f"[{number}/{len(cells)}] {cell.name}: {state(path)}", flush=True)
        try:
            train(cell, path)
        except ParlError as error:
            if error.exit_code > STOPPED:
                raise
            print(f"{cell.name}: {error}", file=sys.stderr, flush=True)
            failed += 1
            continue
        print(f"    return {json.loads((path / 'result.json').read_text())['return_mean']}")
        study_report.write(study, out, results)
    return int(failed > 0)


def state(path: Path) -> str:
    """How far a cell is."""
    if (path / "result.json").exists():
        return "finished"
    saved = RunDir(path).saved()
    return f"at step {saved[-1]:,}" if saved else "not begun"


def show(cells: list[Cell], out: Path) -> None:
    """Prints the cells, what a step of each costs, and how far it is."""
    for cell in cells:
        parts = cell.parts()
        steps, seeds = parts.config.steps, parts.config.num_seeds
        gflop = gflop_per_step(parts)
        print(
            f"{cell.name:<32} {steps:>9,} steps x {seeds} seeds  {gflop:7.3f} GFLOP a step "
            f"{gflop * steps * seeds / 1e3:9,.1f} TFLOP  {state(out / cell.name)}"
        )


def main(words: Any = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", required=True, help="a name in studies/, or a YAML file")
    parser.add_argument("--out", type=Path, default=Path("runs/control"), help="of the runs")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "control")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--list", action="store_true", help="show the cells, train nothing")
    parser.add_argument("--report", action="store_true", help="write the results, train nothing")
    arguments = parser.parse_args(words)
    try:
        study = load(arguments.study)
        cells = [cell for cell in study.cells if arguments.only in cell.name]
        if arguments.list:
            show(cells, arguments.out)
            return 0
        if arguments.report:
            study_report.write(study, arguments.out, arguments.results)
            return 0
        for cell in cells:
            cell.parts()  # a mistake in the last cell is told now, not in some hours
        with alone(arguments.out):
            return run(study, cells, arguments.out, arguments.results)
    except ParlError as error:
        print(f"control: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
