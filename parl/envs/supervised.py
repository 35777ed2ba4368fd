"""How processes that step environments are supervised: their answers, deaths and hangs."""

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any, Protocol

from parl.core.errors import EnvError
from parl.envs import pulse

LASTING = 100  # steps after which earlier deaths of a process no longer count
SIGN = 0.25  # seconds between two signs of life
CLOSING = 5.0  # seconds for the environments to close


class Lost(EnvError):
    """A process that is gone or hangs; `reason` says which and why."""

    def __init__(self, reason: str, hint: str = ""):
        self.reason = reason
        super().__init__(
            f"{reason}{hint}; what was saved last is intact, go on from there with 'parl resume'."
        )


@contextlib.contextmanager
def losses(lost: dict[int, Lost], index: int) -> Iterator[None]:
    """Notes under its index where a process is lost."""
    try:
        yield
    except Lost as error:
        lost[index] = error


class Supervised(Protocol):
    """Another process that answers and gives signs of life."""

    id: str  # of its environments
    deadline: float | None  # seconds without a sign after which it counts as hung
    longest: float  # seconds between two signs so far
    name: str  # what it is, in the plural

    @property
    def pid(self) -> int | None: ...

    @property
    def exit_code(self) -> int | None: ...

    def has_answered(self, seconds: float) -> bool:
        """Whether there is something to read, at the latest after these seconds."""
        ...

    def beats(self) -> int:
        """The number of signs of life so far."""
        ...

    def ended(self) -> Lost:
        """The error where it is gone."""
        ...


def await_answer(process: Supervised, more: float = 0.0) -> None:
    """Waits until a process has answered. Raises Lost where it ends, or hangs.

    `more` seconds of silence are granted on top of what pulse.py says.
    """
    seen, beats = time.monotonic(), process.beats()
    while not process.has_answered(SIGN):
        if process.exit_code is not None and not process.has_answered(0):
            raise process.ended()
        now = time.monotonic()
        if process.beats() != beats:
            process.longest = max(process.longest, now - seen)
            seen, beats = now, process.beats()
            pulse.beat()  # of this process, too
        if now - seen > pulse.patience(process.deadline, process.longest) + more:
            raise Lost(
                f"{process.id}: the {process.name} hang, nothing was heard of them for "
                f"{now - seen:.0f} s (process {process.pid})"
            )


def ended(process: Supervised) -> Lost:
    """The error of a process that is gone."""
    code, how = process.exit_code, "ended"
    if code is not None:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return Lost(f"{process.id}: the process {process.pid} with {process.name} {how}")


class Stepper(Protocol):
    """Some of the environments, as the one that shares them out sees them."""

    steps: int  # of this process
    deaths: int  # of it and those before it, in a row

    def send(self, call: str, argument: Any) -> None:
        """Asks for something."""
        ...

    def answer(self, more: float = 0.0) -> Any:
        """What it answers. Raises Lost where it ends or hangs, or what went wrong there."""
        ...

    def ask(self, call: str, argument: Any) -> Any:
        """What it answers to a request."""
        ...

    def dismiss(self) -> None:
        """Has it close its environments and end."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...

    def end(self) -> None:
        """Waits for its end, for a while."""
        ...
