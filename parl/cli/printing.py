"""Output shared by several commands."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

WIDTH = 200  # columns in a pipe or file, so that no line is wrapped
HELP = {"-h", "--help", "help"}


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
