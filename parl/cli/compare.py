"""parl compare RUN ... [flags]."""

import dataclasses
from pathlib import Path

import tyro
from rich.table import Table

from parl.cli.flags import Flags, parse
from parl.cli.printing import console
from parl.core.settings import declared
from parl.studies.compare import Comparison, cell, rows_of


@dataclasses.dataclass(frozen=True)
class CompareFlags(Flags):
    """Compare runs: interquartile means over seeds with 95 % bootstrap intervals."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories of runs, or directories that hold runs."""
    by: str = ""
    """What tells groups apart: algorithm, or a setting such as learning_rate; not given: everything
    but the seed."""
    metric: str = "eval/return_mean"
    """What is compared: a name in metrics.jsonl."""
    at: int | None = declared(None, low=1)
    """Environment steps up to which runs count; not given: their ends."""
    limits: Path | None = None
    """CSV table env,low,high of the scores that count as 0 and 1, to put environments together."""
    out: Path | None = None
    """Directory for compare.json, table.md, table.tex, curves.png, profile.png, improvement.png."""


def run(arguments: list[str]) -> int:
    """parl compare RUN ... [flags]."""
    flags = parse(CompareFlags, arguments, "parl compare")
    from parl.studies import compare, pictures
    from parl.studies.find import find_runs

    runs = find_runs(flags.runs)
    limits = compare.read_limits(flags.limits) if flags.limits else None
    found = compare.compare(runs, flags.by, flags.metric, flags.at, limits)
    show(found)
    if flags.out is not None:
        paths = pictures.write(found, runs, flags.by, flags.metric, flags.out)
        print(f"written: {', '.join(map(str, paths))}")
    return 0


def show(found: Comparison) -> None:
    """Prints the table, who is better how surely, and what a reader should know."""
    screen = console()
    table = Table("environment", "group", "seeds", "IQM [95 % interval]", "", box=None)
    for env, group, seeds, one in rows_of(found):
        table.add_row(env, group, str(seeds), cell(one), "above all others" if one.wins else "")
    screen.print(table)
    if len(found.groups) > 1:
        title = "how likely the row is above the column"
        matrix = Table("", *found.groups, title=title, title_justify="left", box=None)
        for name, row in zip(found.groups, found.improvement, strict=True):
            matrix.add_row(name, *(f"{x:.2f}" for x in row))
        screen.print("", matrix)
    for remark in found.remarks:
        screen.print(f"note: {remark}")
