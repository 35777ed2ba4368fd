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
    """Directory of the run, or its URI in a store."""
    steps: int | None = None
    """Train to this many environment steps instead of the run's own."""
    schedule: str | None = None
    """Learning rate schedule of a longer run, with --steps: stretch (default) spreads it over all
    steps, as if the run had been that long from the start; restart begins a new one for the added
    steps; keep leaves the old one, whose final rate may be 0."""
    address: str | None = None
    """Ray cluster to use instead of the run's own."""
    learners: int | None = None
    """Learners to use instead of the run's own number, which is then not bit-exact."""
    checkpoint: str = "latest"
    """Checkpoint to resume from: latest, best, or its environment steps; newer checkpoints and
    their metrics are removed."""
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
        learners=flags.learners,
    )
    print_result(done.result, done.path)
    return 0
