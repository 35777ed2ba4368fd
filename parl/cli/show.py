"""parl show RUN."""

import dataclasses
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from parl.cli.distill import table_of
from parl.cli.flags import Flags, parse
from parl.cli.printing import console

BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 60  # columns of the curve


@dataclasses.dataclass(frozen=True)
class ShowFlags(Flags):
    """Show a run: what differs from the recipe's settings, the result and the curve."""

    dir: tyro.conf.Positional[Path]
    """Directory of the run."""


def run(arguments: list[str]) -> int:
    """parl show RUN."""
    flags = parse(ShowFlags, arguments, "parl show")
    from parl.report.plotting import series
    from parl.runs.result import returns_line, time_line
    from parl.runs.told import changed
    from parl.runs.waits import in_words
    from parl.studies.find import GREEDY, TRAINING, read_run

    found = read_run(flags.dir)
    screen = console()
    screen.print(f"{found.config['algorithm']} on {found.config['env']}, {found.state}")
    table = Table("setting", "this run", "default", box=None)
    for name, value, default in changed(found.config):
        table.add_row(name, str(value), str(default))
    screen.print(table if table.row_count else "all settings are the recipe's own")
    if found.result:
        screen.print("", returns_line(found.result), time_line(found.result), sep="\n")
    if told := in_words(found.records):
        screen.print(told)
    if (found.path / "smaller.json").is_file():
        screen.print("", table_of(found.path), sep="\n")
    for key, what in ((GREEDY, "greedy evaluation"), (TRAINING, "training return")):
        steps, values = series(found.records, key)
        if len(steps):
            screen.print("", *curve(values.mean(1), f"{what}, to {steps[-1]:,.0f} steps"), sep="\n")
            break
    return 0


def curve(values: Any, title: str) -> list[str]:
    """A curve as one line of bars between its least and its largest value."""
    low, high = float(values.min()), float(values.max())
    picked = (
        [values[int(i * len(values) / WIDTH)] for i in range(WIDTH)]
        if len(values) > WIDTH
        else values
    )
    scale = (len(BARS) - 1) / max(high - low, 1e-12)
    bars = "".join(BARS[round((float(x) - low) * scale)] for x in picked)
    return [title, f"{bars}  {low:.4g} to {high:.4g}"]
