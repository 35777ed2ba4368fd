"""parl plot RUN ... [flags]."""

import dataclasses
from pathlib import Path

import tyro

from parl.cli.flags import Flags, parse
from parl.core.settings import declared

FORMATS = (".png", ".svg", ".html")


@dataclasses.dataclass(frozen=True)
class PlotFlags(Flags):
    """Draw the learning curves of runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories of runs, or directories that hold runs."""
    x: str = declared("env_steps", choices=("env_steps", "wall_s", "updates"))
    """The axis below: env_steps, wall_s or updates."""
    metric: str = "eval/return_mean"
    """What is drawn: a name in metrics.jsonl."""
    by: str = ""
    """What tells curves apart: algorithm, or a setting such as learning_rate; not given: everything
    but the seed."""
    smooth: int = declared(1, low=1, high=10_000)
    """Each point is the mean of this number of evaluations up to it; the picture says so."""
    out: Path = Path("curves.png")
    """File to write: .png, .svg or .html."""


def run(arguments: list[str]) -> int:
    """parl plot RUN ... [flags]."""
    flags = parse(PlotFlags, arguments, "parl plot")
    from parl.core.errors import ConfigError
    from parl.studies.find import find_runs
    from parl.studies.pictures import plot

    if flags.out.suffix not in FORMATS:
        raise ConfigError(f"--out {flags.out} must end in one of {', '.join(FORMATS)}.")
    runs = find_runs(flags.runs)
    print(f"written: {plot(runs, flags.by, flags.metric, flags.x, flags.smooth, flags.out)}")
    return 0
