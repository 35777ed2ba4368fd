"""Exceptions on their way from one process to another, as text."""

import traceback
from typing import NamedTuple

from parl.core import errors
from parl.core.errors import ParlError, RemoteError


class Failure(NamedTuple):
    """What is left of an exception when it leaves its process."""

    kind: str  # name of its class, that of parl.core.errors where it is one of those
    message: str
    traceback: str  # with the exceptions that caused it


def describe(error: BaseException) -> Failure:
    """The text of an exception."""
    text = "".join(traceback.format_exception(error))
    return Failure(type(error).__name__, str(error), text)


def revive(failure: Failure, where: str) -> ParlError:
    """The exception to raise here for one of another process.

    PARL's own errors keep class and sentence; all others become RemoteError, with the traceback
    of the other process in the message. The traceback is also in a note.
    """
    kind = getattr(errors, failure.kind, None)
    if not isinstance(kind, type) or not issubclass(kind, ParlError) or kind is RemoteError:
        prefix = "" if failure.kind == "RemoteError" else f"{failure.kind} in {where}: "
        message = prefix + failure.message
        return RemoteError(f"{message}\n{indent(failure.traceback)}".rstrip())
    error = kind(failure.message)
    error.add_note(f"In {where}:\n{indent(failure.traceback)}")
    return error


def indent(text: str) -> str:
    """Text set off from what is around it."""
    return "".join(f"  | {line}\n" for line in text.rstrip().splitlines())
