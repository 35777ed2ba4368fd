"""parl distill RUN [--hidden N ...] [--out DIR]."""

import dataclasses
from pathlib import Path

import tyro
from rich.table import Table

from parl.cli.flags import Flags, Place, parse
from parl.cli.printing import console, print_result
from parl.core.settings import declared


@dataclasses.dataclass(frozen=True)
class DistillFlags(Flags):
    """Train a smaller network to act as a run's policy does: a run of its own."""

    run: tyro.conf.Positional[Path]
    """Directory of the run that teaches."""
    hidden: tuple[int, ...] = (32, 32)
    """Units of each layer of the smaller network."""
    rounds: int = declared(12, low=1, high=10_000)
    """Rounds: the teacher acts in the first, the smaller network in all others; after each it
    learns from all states so far."""
    steps: int = declared(24_000, low=1)
    """Environment steps of all rounds together."""
    checkpoint: str = "latest"
    """Whose policy teaches: latest, best, or the environment steps of a checkpoint."""
    episodes: int = declared(10, low=1, high=100_000)
    """Episodes by which both are judged."""
    seed: int = declared(0, low=0)
    """Seed of the new run, and of the episodes."""
    out: Place = None
    """Directory of the new run; not given: a new one under runs/."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: list[str]) -> int:
    """parl distill RUN [flags]."""
    flags = parse(DistillFlags, arguments, "parl distill")
    from parl import api

    settings = dataclasses.asdict(flags)
    done = api.distill(settings.pop("run"), **settings)
    print_result(done.result, done.path)
    console().print(table_of(done.path))
    return 0


def table_of(place: Path) -> Table:
    """The table of a run that was distilled."""
    from parl.deploy import smaller

    table = Table(*smaller.HEAD, box=None)
    rows = smaller.read(place)
    for row in rows:
        table.add_row(*row.told(rows[0]))
    return table
