"""Output shared by several commands."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from parl.core.errors import ConfigError, nearest

WIDTH = 200  # columns in a pipe or file, so that no line is wrapped
HELP = {"-h", "--help", "help"}


def run_one_of(
    group: str, commands: Mapping[str, Callable[[list[str]], int]], usage: str, arguments: list[str]
) -> int:
    """Runs the command of a group that is named first, or prints how it is used.

    Raises ConfigError for an unknown one.
    """
    if not arguments or arguments[0] in HELP:
        print(usage)
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in commands:
        hint, known = nearest(name, commands), ", ".join(commands)
        raise ConfigError(f"unknown command '{group} {name}'.{hint} Known: {known}.")
    return commands[name](rest)


def print_result(result: dict[str, Any], path: Path) -> None:
    """Prints the result to stdout."""
    from parl.runs.result import returns_line, time_line

    print(returns_line(result))
    if "stopped" in result:
        print(f"ended early: {result['stopped']}")
    print(f"{time_line(result)}, run directory {path}")


def console() -> Console:
    """Prints tables, as wide as the terminal, or WIDTH in a pipe or a file."""
    width = None if sys.stdout.isatty() else WIDTH
    return Console(highlight=False, markup=False, soft_wrap=True, width=width)
