"""Functions with some arguments given, which are equal where these are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bound:
    """A function with keyword arguments; unlike functools.partial it equals others by value.

    Networks and optimisers made of it have one structure in all runs, which share programs then.
    """

    function: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **{**dict(self.arguments), **kwargs})


def bound(function: Callable[..., Any], **arguments: Any) -> Bound:
    """`function` with these keyword arguments."""
    return Bound(function, tuple(sorted(arguments.items())))
