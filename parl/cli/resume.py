"""parl resume DIR [--steps N]."""

import dataclasses
from pathlib import Path

import tyro

from parl.cli.flags import Flags, parse
from parl.cli.printing import print_result
from parl.report.announce import announced


@dataclasses.dataclass(frozen=True)
class ResumeFlags(Flags):
    """Continue a run."""

    dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    steps: int | None = None
    """Train to this many environment steps instead of the run's own."""
    schedule: str | None = None
    """Learning rates of a longer run, with --steps: stretch has them fall over all steps, as if the
    run had been that long from the start; restart begins anew for the added steps; keep leaves them
    at what they came to, perhaps 0, where nothing more is learned. Not given: stretch."""
    address: str | None = None
    """Ray cluster to go on with instead of the run's own."""
    checkpoint: str = "latest"
    """Where to go on from: latest, best, or the environment steps of a checkpoint; newer ones and
    their metrics are dropped."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: list[str]) -> int:
    """parl resume DIR [--steps N]."""
    flags = parse(ResumeFlags, arguments, "parl resume")
    with announced(quiet=flags.quiet):
        from parl import api

    done = api.resume(
        flags.dir,
        flags.steps,
        quiet=flags.quiet,
        address=flags.address,
        schedule=flags.schedule,
        checkpoint=flags.checkpoint,
    )
    print_result(done.result, done.path)
    return 0
