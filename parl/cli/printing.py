"""What several commands print."""

from pathlib import Path
from typing import Any

HELP = {"-h", "--help", "help"}


def print_result(result: dict[str, Any], path: Path) -> None:
    """The result in two lines on stdout."""
    from parl.runs.result import returns_line, time_line

    print(returns_line(result))
    if "stopped" in result:
        print(f"ended early: {result['stopped']}")
    print(f"{time_line(result)}, run directory {path}")
