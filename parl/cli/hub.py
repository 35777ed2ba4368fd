"""parl hub push|pull|list."""

import dataclasses
from pathlib import Path

import tyro
from rich.table import Table

from parl.cli.flags import Flags, parse
from parl.cli.printing import console, run_one_of

USAGE = """usage: parl hub COMMAND ...

  parl hub push RUN|POLICY HUB [--name NAME]   copy a run or an exported policy into a hub
  parl hub pull HUB/NAME [--out DIR]           copy it from there, verified
  parl hub list HUB                            what a hub holds

HUB is a directory or a URI such as s3://bucket/hub, hf://user/repository or file:///share/hub."""


@dataclasses.dataclass(frozen=True)
class PushFlags(Flags):
    """Copy a run, with one of its checkpoints, or an exported policy into a hub."""

    source: tyro.conf.Positional[Path]
    """Directory of the run or policy, or its URI."""
    hub: tyro.conf.Positional[Path]
    """Directory or URI of the hub."""
    name: str | None = None
    """Its name there; not given: that of its directory."""
    checkpoint: str = "latest"
    """Checkpoint of a run: latest, best, or its environment steps."""
    replace: bool = False
    """Take the place of what has this name there."""


@dataclasses.dataclass(frozen=True)
class PullFlags(Flags):
    """Copy a run or a policy from a hub, and verify every file."""

    entry: tyro.conf.Positional[Path]
    """HUB/NAME."""
    out: Path | None = None
    """Directory to write; not given: NAME."""


@dataclasses.dataclass(frozen=True)
class ListFlags(Flags):
    """List what a hub holds."""

    hub: tyro.conf.Positional[Path]
    """Directory or URI of the hub."""


def run(arguments: list[str]) -> int:
    """parl hub push|pull|list."""
    return run_one_of("hub", COMMANDS, USAGE, arguments)


def push(arguments: list[str]) -> int:
    """parl hub push RUN|POLICY HUB."""
    flags = parse(PushFlags, arguments, "parl hub push")
    from parl.deploy import hub

    print(hub.push(flags.source, flags.hub, flags.name, flags.checkpoint, flags.replace))
    return 0


def pull(arguments: list[str]) -> int:
    """parl hub pull HUB/NAME."""
    flags = parse(PullFlags, arguments, "parl hub pull")
    from parl.deploy import hub

    print(hub.pull(flags.entry, flags.out))
    return 0


def show(arguments: list[str]) -> int:
    """parl hub list HUB."""
    flags = parse(ListFlags, arguments, "parl hub list")
    from parl.deploy import hub
    from parl.report.progress import short

    table = Table(box=None, pad_edge=False)
    for name in ("name", "kind", "algorithm", "environment", "steps", "return", "MB"):
        table.add_column(name, overflow="fold")
    for name, about in hub.entries(flags.hub).items():
        mean = (about.get("return") or {}).get("mean")
        steps = about.get("env_steps")
        table.add_row(
            name,
            about["kind"],
            str(about["algorithm"]),
            str(about["env"]),
            "-" if steps is None else f"{steps:,}",
            "-" if mean is None else short(mean),
            f"{about['bytes'] / 1e6:.2f}",
        )
    console().print(table)
    return 0


COMMANDS = {"push": push, "pull": pull, "list": show}
