"""Measurements of a pool."""

from collections import deque

import numpy as np

SMOOTHING = 0.1  # weight of the newest fragment in the moving averages
SHORTEST, LONGEST = 0.05, 0.2  # seconds of work in a fragment, whose handling costs 1 ms


class Gauge:
    """Moving averages and counts."""

    def __init__(self) -> None:
        self.fragment_seconds = 0.0
        self.step_seconds = 0.0
        self.deaths = self.rebuilds = self.recycled = self.drained = 0
        self.recoveries: deque[float] = deque(maxlen=10_000)  # seconds from death to a fragment
        self.lags: deque[int] = deque(maxlen=10_000)  # versions between acting and learning

    def fragment(self, seconds: float, length: int) -> None:
        """Notes the work of a fragment. One slow fragment says little about the next."""
        if not self.fragment_seconds:
            self.fragment_seconds, self.step_seconds = seconds, seconds / length
        self.fragment_seconds = smooth(self.fragment_seconds, seconds)
        self.step_seconds = smooth(self.step_seconds, seconds / length)

    def tuned(self, length: int) -> int:
        """A power of two near `length` whose work is neither too short nor too long."""
        if not self.step_seconds or SHORTEST <= length * self.step_seconds <= LONGEST:
            return length
        ideal = (SHORTEST * LONGEST) ** 0.5 / self.step_seconds
        return int(2 ** np.clip(np.round(np.log2(ideal)), 0, 12))

    def report(self) -> dict[str, float | int]:
        """Plain numbers."""
        return {
            "deaths": self.deaths,
            "rebuilds": self.rebuilds,
            "recycled": self.recycled,
            "drained": self.drained,
            "fragment_seconds": self.fragment_seconds,
            **percentiles("lag", list(self.lags), (50, 99)),
            **percentiles("recovery_seconds", list(self.recoveries), (50, 95)),
        }


def smooth(average: float, value: float) -> float:
    """The moving average with one more value, which counts as at most thrice the average."""
    return average + SMOOTHING * (min(value, 3 * average) - average)


def percentiles(name: str, values: list, which: tuple[int, ...]) -> dict[str, float]:
    """Percentiles under the names name_p50 etc.; none of nothing."""
    return {f"{name}_p{p}": float(np.percentile(values, p)) for p in which if values}
