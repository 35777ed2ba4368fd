"""Ctrl-C and SIGTERM: a run ends between two iterations, saved."""

import signal
import threading
from types import FrameType
from typing import Any, Self

from parl.core.errors import ParlError


class Interrupted(ParlError):
    """A signal ended the run after it was saved."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.exit_code = 128 + signum


class Signals:
    """Notes the first signal while it is open; a second one ends the process at once.

    In the main thread only: others get no signals.
    """

    def __init__(self) -> None:
        self.signum = 0  # of the signal that came
        self.handlers: dict[int, Any] = {}  # those before

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self.handlers[signum] = signal.signal(signum, self.note)
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)

    def note(self, signum: int, frame: FrameType | None) -> None:
        """The handler."""
        self.signum = signum
        signal.signal(signum, signal.default_int_handler)

    @property
    def name(self) -> str:
        """Such as SIGTERM; empty where none came."""
        return signal.Signals(self.signum).name if self.signum else ""
