"""parl runs [DIR]."""

import dataclasses
from pathlib import Path

import tyro
from rich.table import Table

from parl.cli.flags import Flags, parse
from parl.cli.printing import console


@dataclasses.dataclass(frozen=True)
class RunsFlags(Flags):
    """List the runs in a directory: state, return, speed and size."""

    dir: tyro.conf.Positional[Path] = Path("runs")
    """Where to look, with all directories below."""


def run(arguments: list[str]) -> int:
    """parl runs [DIR]."""
    flags = parse(RunsFlags, arguments, "parl runs")
    from parl.report.progress import short
    from parl.studies.find import age, find_runs

    table = Table(box=None, pad_edge=False)
    for name in ("run", "algorithm", "environment", "seeds", "state", "steps", "return", "steps/s"):
        table.add_column(name, overflow="fold")
    table.add_column("MB", justify="right")
    table.add_column("last line")
    for found in find_runs([flags.dir]):
        last = next((r for r in reversed(found.records) if "sps" in r), {})
        final = found.result.get("return") or {}
        score = final.get("mean", newest(found.records))
        table.add_row(
            str(found.path),
            found.config["algorithm"],
            found.config["env"],
            str(found.config.get("num_seeds", 1)),
            found.state,
            f"{found.env_steps:,}",
            "-" if score is None else short(score),
            short(last["sps"]) if last.get("sps") else "-",
            f"{found.num_bytes / 1e6:.1f}",
            age(found),
        )
    console().print(table)
    return 0


def newest(records: list[dict]) -> float | None:
    """The mean return of the last greedy evaluation, if there was one."""
    found = [r["eval/return_mean"] for r in records if r.get("eval/return_mean") is not None]
    return found[-1] if found else None
