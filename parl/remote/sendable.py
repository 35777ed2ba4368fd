"""What cannot be sent to another process, by its name."""

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from ray import cloudpickle

from parl.core.errors import ConfigError

DEPTH = 8  # of parts within parts that are looked into


def unsendable(maker: Any, error: Exception) -> ConfigError:
    """The error of a maker of environments that cannot be sent to the actors."""
    name, reason = culprit(maker, getattr(maker, "__name__", "the maker"), DEPTH) or (
        "",
        str(error),
    )
    what = f"`{name}`" if name else "it"
    return ConfigError(
        "the function that makes the environments cannot be sent to the actors, because of "
        f"{what}: {reason.partition(chr(10))[0].rstrip('.')}; make that inside the function, or "
        "train with actors=0."
    )


def culprit(value: Any, name: str, depth: int) -> tuple[str, str] | None:
    """(name, reason) of the smallest part of a value that cannot be sent."""
    reason = why_not(value)
    if not reason:
        return None
    for part_name, part in parts(value) if depth else ():
        if found := culprit(part, part_name or name, depth - 1):
            return found
    return name, reason


def why_not(value: Any) -> str:
    """Why a value cannot be pickled; empty where it can."""
    try:
        cloudpickle.dumps(value)  # pyright: ignore[reportPrivateImportUsage]
    except Exception as error:  # whatever its own methods raise
        return str(error) or type(error).__name__
    return ""


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, by names as in the source."""
    if isinstance(value, partial):
        yield from (("", value.func), *(("", one) for one in value.args), *value.keywords.items())
    elif inspect.isfunction(value):
        used = inspect.getclosurevars(value)
        yield from (*used.nonlocals.items(), *used.globals.items())
        yield from (("", one) for one in value.__defaults__ or ())
    elif inspect.ismethod(value):
        yield "", value.__self__
    elif isinstance(value, dict):
        yield from ((str(key), one) for key, one in value.items())
    elif isinstance(value, tuple | list | set):
        yield from (("", one) for one in value)
    elif hasattr(value, "__dict__") and not inspect.ismodule(value):
        yield from vars(value).items()
