"""Parameters of tests that only run with `-m slow`."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """One set of parameters that is slow."""
    return pytest.param(*values, marks=pytest.mark.slow)


def quick(names: Iterable[Any], *chosen: Any) -> list[Any]:
    """Parameters of which all but the chosen ones are slow; tuples are sets of parameters."""
    values = lambda name: name if isinstance(name, tuple) else (name,)
    return [name if name in chosen else slow(*values(name)) for name in names]
