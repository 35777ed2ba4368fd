"""What is said while a store is waited for."""

import contextlib
import sys
import threading
from collections.abc import Iterator

from parl.core.store import READ_SECONDS, Store

SILENCE = 2.0  # seconds after which it is said


@contextlib.contextmanager
def told_of_waiting(store: Store) -> Iterator[None]:
    """Says that a store is waited for where this takes more than SILENCE seconds."""
    told = [f"waiting for {store.uri}, which has {READ_SECONDS} s for each answer"]
    timer = threading.Timer(SILENCE, say, told)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def say(text: str) -> None:
    """Prints a line to stderr."""
    print(text, file=sys.stderr, flush=True)
