"""parl check DIR."""

import dataclasses
from pathlib import Path

import tyro

from parl.cli.flags import Flags, parse


@dataclasses.dataclass(frozen=True)
class CheckFlags(Flags):
    """Whether an exported policy is as it was written, and acts as it did."""

    dir: tyro.conf.Positional[Path]
    """Directory of the policy."""


def run(arguments: list[str]) -> int:
    """parl check DIR: exit code 1 where something is wrong."""
    flags = parse(CheckFlags, arguments, "parl check")
    from parl.deploy import check

    good, wrong = check.check(flags.dir)
    for line in good:
        print(line)
    for line in wrong:
        print(f"FAILED: {line}")
    return 1 if wrong else 0
