"""A message on stderr while something slow is in progress, such as imports.

Loading JAX, an environment and its simulator may take seconds; this module loads nothing.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

AFTER_S = 0.7  # what is sooner needs no word, and an error stands alone
said = False  # once a process is enough


def announced(text: str = "starting ...", quiet: bool = False) -> AbstractContextManager[None]:
    """Prints a line to stderr if what is within takes long, unless one was printed before."""
    return nullcontext() if quiet or said else said_after(AFTER_S, text, say)


@contextmanager
def said_after(seconds: float, text: str, say: Callable[[str], None]) -> Iterator[None]:
    """Calls `say` from a thread, with the text, if what is within takes more seconds."""
    timer = threading.Timer(seconds, say, [text])
    timer.daemon = True
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
