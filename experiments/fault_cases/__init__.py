"""Situations that users met: each a function that raises AssertionError unless all is right.

A file holds one area. `case` names a function after the report it came from, such as F01.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Case(NamedTuple):
    """One situation."""

    name: str
    check: Callable[[], Any]
    seconds: float  # after which it counts as hanging
    slow: bool  # left out by --fast


CASES: dict[str, Case] = {}


def case(
    name: str, seconds: float = 120, slow: bool = False
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Registers a check under the name of its report; names are unique."""

    def register(check: Callable[[], Any]) -> Callable[[], Any]:
        assert name not in CASES, f"two cases are called {name}"
        CASES[name] = Case(name, check, seconds, slow)
        return check

    return register
