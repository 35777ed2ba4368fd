"""A message on stderr while slow imports are in progress.

Loading JAX, an environment and its simulator may take seconds; this module loads nothing.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AFTER_S = 0.7  # what is sooner needs no word, and an error stands alone
said = False  # once a process is enough


@contextmanager
def announced(text: str = "starting ...", quiet: bool = False) -> Iterator[None]:
    """Prints a line to stderr if what is within takes long, unless one was printed before."""
    timer = threading.Timer(AFTER_S, say, [text])
    timer.daemon = True
    if not quiet and not said:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def say(text: str) -> None:
    """Prints the line; no failure to do so matters."""
    global said
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        return
    said = True
