"""Signals: SIGINT, SIGTERM and SIGHUP end a run, saved; SIGUSR1 has it save and go on."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any, ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
ENDING = (signal.SIGINT, signal.SIGTERM)
POLITE = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name))
SAVING = getattr(signal, "SIGUSR1", None)
PATIENCE = 3  # signals that end even a save that does not come to its end


class Interrupted(SystemExit):
    """A signal ended the run. `exit_code` is that of a shell: 128 and the signal's number.

    It is no Exception, so that a loop over runs that catches those ends, too; a script that does
    not catch it ends with that code. One of SIGINT is a KeyboardInterrupt.
    """

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum, self.exit_code = signum, 128 + signum
        self.code = self.exit_code


class KeyboardInterrupted(Interrupted, KeyboardInterrupt):
    """Ended by SIGINT."""


def interrupted(message: str, signum: int) -> Interrupted:
    """The exception for a signal."""
    kind = KeyboardInterrupted if signum == signal.SIGINT else Interrupted
    return kind(f"{signal.Signals(signum).name}: {message}", signum)


class Signals:
    """Takes signals while it is open, in the main thread only: others get none.

    With `at_once`, what to say then, the first one raises Interrupted wherever the program is.
    Without, it is noted, for the program to look at; the second raises, but for a save under way,
    which may finish. SIGHUP and SIGUSR1 are left alone where the user ignores or handles them.
    """

    def __init__(self, at_once: str = ""):
        self.at_once = at_once
        self.then = "ended at once."  # what the second one says
        self.signum = self.count = 0  # the last that came, and how many
        self.save_wanted = self.saving = False
        self.handlers: dict[int, Any] = {}  # those before

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in (*ENDING, *POLITE):
                before = signal.getsignal(signum)
                if before is not None and (signum in ENDING or is_free(before)):
                    self.handlers[signum] = signal.signal(signum, self.note)
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)

    def note(self, signum: int, frame: FrameType | None) -> None:
        """The handler."""
        if signum == SAVING:
            self.save_wanted = True
            return
        self.signum, self.count = signum, self.count + 1
        if self.count >= PATIENCE or (not self.saving and (self.at_once or self.count > 1)):
            raise interrupted(self.at_once or self.then, signum)

    @property
    def name(self) -> str:
        """Such as SIGTERM; empty where none came."""
        return signal.Signals(self.signum).name if self.signum else ""

    def asked_to_save(self) -> bool:
        """Whether SIGUSR1 came since the last time that this was asked."""
        wanted, self.save_wanted = self.save_wanted, False
        return wanted

    @contextmanager
    def save(self) -> Iterator[None]:
        """Within, only a third signal raises."""
        before, self.saving = self.saving, True
        try:
            yield
        finally:
            self.saving = before

    @contextmanager
    def may_raise(self, message: str) -> Iterator[None]:
        """Within, the first signal raises, also one that came before: nothing is lost by it."""
        before, self.at_once = self.at_once, message
        try:
            if self.signum:
                raise interrupted(message, self.signum)
            yield
        finally:
            self.at_once = before


def ending(at_once: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Has a signal end a function's calls, as long as nothing else takes signals.

    What that says is printed, where no Signals are open above it that will do so.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> T:
            is_first = not is_ours(signal.getsignal(signal.SIGINT))
            try:
                with Signals(at_once):
                    return function(*args, **options)
            except Interrupted as error:
                if is_first:
                    print(error, file=sys.stderr)
                raise

        return call

    return decorate


def is_free(handler: Any) -> bool:
    """Whether a signal is neither ignored nor handled, but by another Signals."""
    return handler is signal.SIG_DFL or is_ours(handler)


def is_ours(handler: Any) -> bool:
    """Whether a Signals handles a signal."""
    return isinstance(getattr(handler, "__self__", None), Signals)
