"""Signals: SIGINT, SIGTERM and SIGHUP save and end a run; SIGUSR1 saves and continues."""

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
PATIENCE = 3  # number of signals that interrupts even a save in progress


class Interrupted(SystemExit):
    """A signal ended the run. `exit_code` is that of a shell: 128 and the signal's number.

    It is not an Exception, so a loop over runs that catches exceptions ends too. A script that does
    not catch it exits with that code. For SIGINT it is also a KeyboardInterrupt.
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
    """Handles signals while it is open, in the main thread.

    In another thread it counts those that the main thread's Signals gets, and raises nothing.

    With a message `at_once`, the first signal raises Interrupted immediately. Otherwise the first
    signal is recorded for the program to check, and the second raises, unless a save is in
    progress, which may finish. An exception that is raised within a callback of the garbage
    collector or a destructor is lost: the next Signals that opens counts the signal, and so does
    the end of this one. SIGHUP and SIGUSR1 are not touched if the user ignores or handles
    them.
    """

    def __init__(self, at_once: str = ""):
        self.at_once = at_once
        self.then = "ended at once."  # message of the second signal
        self.signum = self.count = 0  # the last signal, and their number
        self.save_wanted = self.saving = False
        self.handlers: dict[int, Any] = {}  # those before
        self.followers: list[Signals] = []  # in other threads
        self.followed: Signals | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in (*ENDING, *POLITE):
                before = signal.getsignal(signum)
                if before is not None and (signum in ENDING or is_free(before)):
                    self.handlers[signum] = signal.signal(signum, self.note)
                outer = getattr(before, "__self__", None)
                lost = outer.signum if isinstance(outer, Signals) else 0
                if lost and not isinstance(sys.exc_info()[1], Interrupted):
                    self.signum, self.count = lost, 1
            return self
        outer = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
        if isinstance(outer, Signals):
            self.followed, self.signum = outer, outer.signum
            outer.followers.append(self)
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)
        if self.followed is not None:
            self.followed.followers.remove(self)
        if kind is None and self.at_once and self.signum:
            raise interrupted(self.at_once, self.signum)

    def note(self, signum: int, frame: FrameType | None) -> None:
        """The handler."""
        if signum == SAVING:
            for each in (self, *self.followers):
                each.save_wanted = True
            return
        self.signum, self.count = signum, self.count + 1
        for follower in list(self.followers):
            follower.signum = signum
        if self.count >= PATIENCE or (not self.saving and (self.at_once or self.count > 1)):
            raise interrupted(self.at_once or self.then, signum)

    @property
    def name(self) -> str:
        """The name of the last signal, such as SIGTERM, or empty."""
        return signal.Signals(self.signum).name if self.signum else ""

    def asked_to_save(self) -> bool:
        """Whether SIGUSR1 came since the last call."""
        wanted, self.save_wanted = self.save_wanted, False
        return wanted

    @contextmanager
    def save(self) -> Iterator[None]:
        """In this context only a third signal raises."""
        before, self.saving = self.saving, True
        try:
            yield
        finally:
            self.saving = before

    @contextmanager
    def may_raise(self, message: str) -> Iterator[None]:
        """In this context the first signal raises, including one that came before."""
        before, self.at_once = self.at_once, message
        try:
            if self.signum:
                raise interrupted(message, self.signum)
            yield
        finally:
            self.at_once = before


def ending(at_once: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates a function so that a signal ends its calls with this message.

    The message is printed unless an outer Signals will do so.
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
    """Whether a signal has its default handler or that of another Signals."""
    return handler is signal.SIG_DFL or is_ours(handler)


def is_ours(handler: Any) -> bool:
    """Whether a Signals handles a signal."""
    return isinstance(getattr(handler, "__self__", None), Signals)
