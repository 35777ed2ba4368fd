"""parl data info|check|merge|split DIR."""

import dataclasses
from pathlib import Path

import tyro

from parl.cli.flags import Flags, parse
from parl.cli.printing import run_one_of
from parl.core.settings import declared
from parl.datasets.card import Card

USAGE = """usage: parl data COMMAND DIR ...

  parl data info DIR                 what a data set holds, and where it is from
  parl data check DIR                whether it is whole and of one piece; exit code 1 if not
  parl data merge DIR DIR ... --out DIR    several as one
  parl data split DIR --out DIR DIR --share 0.9   its episodes in two parts, drawn by --seed

DIR is a directory that 'parl record' wrote, one of Minari's, or an HDF5 file in D4RL's layout."""


@dataclasses.dataclass(frozen=True)
class PathFlags(Flags):
    """A data set."""

    dir: tyro.conf.Positional[Path]
    """Directory or file."""


@dataclasses.dataclass(frozen=True)
class MergeFlags(Flags):
    """Write several data sets as one."""

    dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories or files."""
    out: Path
    """The new data set."""


@dataclasses.dataclass(frozen=True)
class SplitFlags(Flags):
    """Write the episodes of a data set as two, drawn at random."""

    dir: tyro.conf.Positional[Path]
    """Directory or file."""
    out: tuple[Path, Path]
    """The two new data sets."""
    share: float = declared(0.9, low=0.0, high=1.0)
    """Share of the episodes in the first."""
    seed: int = declared(0, low=0)
    """Seed of the draw."""


def run(arguments: list[str]) -> int:
    """parl data info|check|merge|split DIR."""
    return run_one_of("data", COMMANDS, USAGE, arguments)


def info(arguments: list[str]) -> int:
    """Prints the card."""
    from parl.datasets.maintenance import described

    flags = parse(PathFlags, arguments, "parl data info")
    print(told(flags.dir, described(flags.dir)))
    return 0


def check(arguments: list[str]) -> int:
    """Prints what is wrong, a sentence each; 1 if anything is."""
    from parl.datasets.maintenance import described, problems

    flags = parse(PathFlags, arguments, "parl data check")
    found = problems(flags.dir)
    for line in found:
        print(line)
    if not found:
        card = described(flags.dir)
        print(f"{flags.dir} is whole: {card.episodes:,} episodes, {card.steps:,} steps.")
    return 1 if found else 0


def merge(arguments: list[str]) -> int:
    """Writes several data sets as one."""
    from parl.datasets.maintenance import merged

    flags = parse(MergeFlags, arguments, "parl data merge")
    print(told(flags.out, merged(flags.dirs, flags.out)))
    return 0


def split(arguments: list[str]) -> int:
    """Writes the episodes of a data set as two."""
    from parl.datasets.maintenance import parted

    flags = parse(SplitFlags, arguments, "parl data split")
    cards = parted(flags.dir, flags.out, flags.share, flags.seed)
    for path, card in zip(flags.out, cards, strict=True):
        print(told(path, card))
    return 0


COMMANDS = {"info": info, "check": check, "merge": merge, "split": split}


def told(path: Path, card: Card) -> str:
    """A data set in words."""
    lines = [f"{path}: {card.episodes:,} episodes, {card.steps:,} steps"]
    if card.environment:
        lines.append(f"environment  {card.environment}")
    if card.policy:
        lines.append("policy       " + ", ".join(f"{k} {x}" for k, x in card.policy.items()))
    if card.returns:
        r = card.returns
        said = f"{r['mean']:.6g} +- {r['std']:.3g} (from {r['min']:.6g} to {r['max']:.6g})"
        lines.append(f"returns      {said}, of {r['count']:,} episodes that ended")
    if card.reference:
        lines.append("reference    " + ", ".join(f"{k} {x:.6g}" for k, x in card.reference.items()))
    if card.commit:
        lines.append(f"commit       {card.commit}")
    if card.shards:
        lines.append(f"sha256       {card.sha256}, {len(card.shards)} files")
    return "\n".join(lines)
