"""What is said while a store is waited for."""

import sys
from contextlib import AbstractContextManager

from parl.core.store import READ_SECONDS, Store
from parl.report.announce import said_after

SILENCE = 2.0  # seconds after which it is said


def told_of_waiting(store: Store) -> AbstractContextManager[None]:
    """Says that a store is waited for where this takes more than SILENCE seconds."""
    text = f"waiting for {store.uri}, which has {READ_SECONDS} s for each answer"
    return said_after(SILENCE, text, say)


def say(text: str) -> None:
    """Prints a line to stderr."""
    print(text, file=sys.stderr, flush=True)
