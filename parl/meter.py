"""What a line of metrics tells of the time since the line before."""

import time
from typing import Any

import numpy as np

from parl.agents.execution import Report


class Meter:
    """Collects what iterations report for one line, and counts steps by the clock."""

    def __init__(self, env_steps: int):
        self.reports: list[Report] = []
        self.start(env_steps)

    def start(self, env_steps: int) -> None:
        """Starts the clock, at so many environment steps of each seed; reports stay."""
        self.began, self.env_steps = time.perf_counter(), env_steps

    def add(self, report: Report) -> None:
        """One more report of an execution."""
        self.reports.append(report)

    def rate(self, env_steps: int) -> float:
        """Environment steps per second of each seed since the start."""
        return (env_steps - self.env_steps) / max(time.perf_counter() - self.began, 1e-9)

    def losses(self) -> dict[str, float]:
        """Means of the algorithm's metrics over the reports, and over seeds."""
        learned = [report.metrics for report in self.reports if report.metrics]
        names = learned[-1] if learned else ()
        return {name: float(np.mean([m[name] for m in learned])) for name in names}

    def returns(self) -> Any:
        """Mean return of the episodes that finished: a number or one per seed, None without."""
        if not self.reports:
            return None
        total = np.sum([report.return_sum for report in self.reports], 0)
        count = np.sum([report.episodes for report in self.reports], 0)
        if not np.all(count):
            return None
        return (total / count).tolist()


def per_seed(name: str, value: Any) -> dict[str, Any]:
    """A number under its name; a list as its mean, and itself under `<name>_seeds`."""
    if isinstance(value, list):
        return {name: float(np.mean(value)), f"{name}_seeds": value}
    return {name: value}
