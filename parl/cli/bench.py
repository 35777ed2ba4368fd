"""parl bench ALGO --env ID [flags]."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from parl.cli.printing import HELP, console
from parl.cli.train import TrainFlags, read_command
from parl.core.settings import declared
from parl.core.store import refuse_uri

if TYPE_CHECKING:
    from parl.studies.bench import Bench

USAGE = """usage: parl bench ALGO --env ID [flags]

How fast an algorithm trains on an environment, beside the environment alone and the update alone,
and what share of the time goes where. The last line is one JSON object. Nothing is written but the
trace of --profile.

  --env ID         HalfCheetah-v5, jax:CartPole-v1, ...
  --seconds S      about how long each of the five measurements takes
  --profile 0:3    trace three iterations, for ui.perfetto.dev, into profile/ here or in --out

All settings of 'parl train ALGO --env ID --help' go; bench is for fused and host execution."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchFlags(TrainFlags):
    """Settings of the measurement and of the run that is measured."""

    seconds: float = declared(1.0, low=0.01, high=600)
    """About how long each of the five measurements takes."""


def run(arguments: list[str]) -> int:
    """parl bench ALGO --env ID ..."""
    if not arguments or arguments[0] in HELP:
        print(USAGE)
        return 0 if arguments else 2
    command = read_command("bench", arguments, BenchFlags)
    from parl.studies.bench import bench

    flags: Any = command.flags
    place = flags.out or Path()
    refuse_uri(place, "a trace")
    found = bench(command.algorithm, command.env, flags.seconds, place, **command.keywords)
    show(found)
    if found.trace:
        print(found.trace)
    print(json.dumps(found.as_json()))
    return 0


def show(found: "Bench") -> None:
    """Prints the table and what it says."""
    from parl.studies.bench import PARTS

    seeds = f", {found.num_seeds} seeds" if found.num_seeds > 1 else ""
    print(
        f"{found.algorithm} on {found.env}, {found.execution}{seeds}: an iteration is "
        f"{found.env_steps:,} steps and {found.updates:,} update{'s' * (found.updates > 1)}"
    )
    table = Table("part", box=None)
    for name in ("ms", "share", "steps/s"):
        table.add_column(name, justify="right")
    for part, (depth, title) in PARTS.items():
        seconds = found.seconds[part]
        alone = part in ("iteration", "environment", "update", "collect", "learn")
        rate = f"{found.env_steps / seconds:,.0f}" if alone else ""
        table.add_row(
            "  " * depth + title, f"{seconds * 1e3:,.3f}", f"{found.share(part):.0%}", rate
        )
    console().print(table)
    print(
        f"{found.steps_per_s:,.0f} steps/s, {found.share_of_environment:.0%} of what the "
        f"environment alone makes"
    )
