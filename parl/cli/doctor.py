"""parl doctor [flags]."""

import dataclasses

from parl.cli.flags import Flags, parse
from parl.cli.printing import console


@dataclasses.dataclass(frozen=True)
class DoctorFlags(Flags):
    """Say what works on this machine, how fast, and what to do about what does not."""

    ray: bool = True
    """Whether to start Ray, which takes some seconds."""
    speed: bool = True
    """Whether to measure learning and stepping, which compiles a program."""


def run(arguments: list[str]) -> int:
    """parl doctor [flags]: exit code 1 if something that everything needs has failed."""
    flags = parse(DoctorFlags, arguments, "parl doctor")
    from parl.studies.doctor import BAD, GOOD, examine

    screen, failed = console(), False
    for found in examine(flags.ray, flags.speed):
        style = {GOOD: "green", BAD: "bold red"}.get(found.state, "yellow")
        screen.print(f"{found.state:<7}{found.name:<14}{found.said}", style=style)
        if found.remedy:
            screen.print(f"{'':<7}{'':<14}-> {found.remedy}")
        failed = failed or found.state == BAD
    return int(failed)
