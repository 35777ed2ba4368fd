"""parl reproduce RUN [flags]."""

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from parl.cli.flags import Flags, parse
from parl.core.settings import declared


@dataclasses.dataclass(frozen=True)
class ReproduceFlags(Flags):
    """Train a run's config again and say whether its parameters are equal, bit by bit."""

    run: tyro.conf.Positional[Path]
    """The run's directory."""
    steps: int | None = declared(None, low=1)
    """Environment steps after which to end and compare; not given: the whole run."""
    out: Path | None = None
    """Directory of the new run; not given, it is thrown away."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: list[str]) -> int:
    """parl reproduce RUN [flags]: exit code 0 if equal, else 1."""
    flags = parse(ReproduceFlags, arguments, "parl reproduce")
    from parl.studies.reproduce import reproduce

    found = reproduce(flags.run, flags.steps, flags.out, quiet=flags.quiet)
    if found.equal and found.sha256[0]:
        print(f"equal: the parameters are the same bit by bit, sha256 {found.sha256[1]}")
        return 0
    if found.equal:
        print("equal: every line of metrics of both is the same")
        return 0
    where = "" if found.parted is None else f", from step {found.parted:,} on"
    what = f" ({', '.join(found.names[:5])}{' ...' * (len(found.names) > 5)})" if where else ""
    print(f"not equal{where}{what}")
    if all(found.returns):
        print(f"returns: {returned(found.returns[0])} before, {returned(found.returns[1])} now")
    for reason in found.reasons or ["nothing is known that differs: settings and versions do not"]:
        print(f"  {reason}")
    return 1


def returned(final: dict[str, Any]) -> str:
    """A result's return with its interval."""
    from parl.report.progress import short

    return f"{short(final['mean'])} [{short(final['low'])}, {short(final['high'])}]"
