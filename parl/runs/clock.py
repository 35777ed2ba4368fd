"""Measures how a run's time is spent."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SPENT_ON: tuple[str, ...] = ("start", "compile", "train", "eval", "save")


class Clock:
    """Seconds by what they were spent on, those before a resume included; it starts with the start.

    Compilation is that of learning: the first iteration of each of its programs.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self.now, self.since = now, now()
        self.current = "start"
        self.seconds = dict.fromkeys(SPENT_ON, 0.0)
        self.steps = 0  # environment steps of each seed that `train` is the time of

    @contextmanager
    def spending(self, what: str) -> Iterator[None]:
        """Counts the time within as spent on `what`, whatever is around it."""
        before = self.switch(what)
        try:
            yield
        finally:
            self.switch(before)

    def switch(self, what: str) -> str:
        """From now on time is spent on `what`; returns what it was spent on before."""
        now = self.now()
        self.seconds[self.current] += now - self.since
        before, self.current, self.since = self.current, what, now
        return before

    def read(self) -> dict[str, float]:
        """Seconds so far, by what they were spent on."""
        self.switch(self.current)
        return dict(self.seconds)

    def told(self) -> dict[str, float]:
        """Seconds so far as a run logs them: compile_s and so on."""
        return {f"{name}_s": round(x, 3) for name, x in self.read().items()}

    @property
    def total(self) -> float:
        """All seconds so far."""
        return sum(self.read().values())

    def add(self, seconds: dict[str, float], steps: int) -> None:
        """Adds what an earlier session spent."""
        for name in SPENT_ON:
            self.seconds[name] += seconds.get(name, 0.0)
        self.steps += steps

    def rate(self) -> float | None:
        """Environment steps of each seed per second of training; None before the first."""
        return pace(self.steps, self.read()["train"])


def pace(steps: int, seconds: float) -> float | None:
    """Steps per second, None of nothing."""
    return steps / seconds if steps > 0 and seconds > 0 else None
