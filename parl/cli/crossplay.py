"""parl crossplay RUN RUN ... [flags]."""

import dataclasses
from pathlib import Path

import tyro
from rich.table import Table

from parl.cli.flags import Flags, parse
from parl.cli.printing import console
from parl.core.settings import declared


@dataclasses.dataclass(frozen=True)
class CrossplayFlags(Flags):
    """Play the policies of runs against each other."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, two or more; your own players as module:attribute."""
    checkpoint: str = "latest"
    """Checkpoint of each run: latest, best, or its environment steps."""
    episodes: int = declared(100, low=1, high=1_000_000)
    """Episodes per pair."""
    seed: int = declared(0, low=0)
    """Seed of the environments."""
    sample: bool = False
    """Sample actions instead of taking the most likely ones, with which deterministic games always
    repeat."""
    actors: int = declared(0, low=0, high=100_000)
    """Ray actors that play rows in parallel; 0 for none."""
    address: str = "local"
    """Ray cluster: local (one of its own), auto (the one of this machine), or HOST:PORT."""
    out: Path | None = None
    """Directory for crossplay.json and crossplay.png."""


def run(arguments: list[str]) -> int:
    """parl crossplay RUN RUN ... [--episodes N] [--actors N] [--out DIR]."""
    flags = parse(CrossplayFlags, arguments, "parl crossplay")
    from parl.runs import crossplay

    how = flags.episodes, flags.seed, flags.sample, flags.actors, flags.address, flags.checkpoint
    result = crossplay.crossplay(flags.runs, *how)
    for title, matrix in crossplay.matrices(result).items():
        solved = [] if result.lossless is None else ["loses nothing"]
        columns = "row \\ column", *result.names, *solved
        table = Table(*columns, title=title, title_justify="left", box=None)
        for i, (name, row) in enumerate(zip(result.names, matrix, strict=True)):
            shares = [] if result.lossless is None else [f"{result.lossless[i]:.3f}"]
            table.add_row(name, *(f"{x:.2f}" for x in row), *shares)
        console().print(table, "")
    if flags.out is not None:
        print(f"written: {', '.join(map(str, crossplay.write(result, flags.out)))}")
    return 0
