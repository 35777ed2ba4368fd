"""Metrics collected between two lines of the log."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from parl.agents.execution.ended import Ended, total
from parl.agents.execution.protocol import Report, mean_of_finite
from parl.envs.info import mean_told
from parl.report.metrics import plain
from parl.runs.clock import Clock, pace
from parl.runs.waits import shares


class Meter:
    """Collects the reports of iterations for one line and measures the training speed."""

    def __init__(self, env_steps: int, clock: Clock):
        self.reports: list[Report] = []
        self.env_steps, self.clock = env_steps, clock  # at the start of the line
        self.steps, self.phases = clock.steps, clock.read()  # so far

    def add(self, report: Report) -> None:
        """Adds a report of an execution."""
        self.reports.append(report)

    def rate(self) -> float | None:
        """Environment steps of each seed per second of training since the start."""
        clock = self.clock
        return pace(clock.steps - self.steps, clock.read()["train"] - self.phases["train"])

    def shares(self) -> dict[str, float | None]:
        """What the time since the start went into."""
        phases = {name: x - self.phases[name] for name, x in self.clock.read().items()}
        names = {name for report in self.reports for name in report.spent}
        within = {name: sum(r.spent.get(name, 0.0) for r in self.reports) for name in names}
        return shares(phases, within)

    def losses(self) -> dict[str, Any]:
        """Means of the algorithm's metrics over the reports: numbers, or lists of one per seed."""
        learned = [report.metrics for report in self.reports if report.metrics]
        names = learned[-1] if learned else ()
        return {name: mean_of_finite([m[name] for m in learned]).tolist() for name in names}

    def ended(self) -> Ended | None:
        """The episodes that ended."""
        return total([report.ended for report in self.reports]) if self.reports else None


def told_of(ended: Ended | None, names: Sequence[str]) -> dict[str, Any]:
    """Metrics of the episodes that ended: numbers, or lists of one per seed.

    None if a seed has no episode; `names` are those of logged `info` entries.
    """
    lines = ("return_mean", "return_min", "return_max", "length_mean")
    if ended is None or not np.all(ended.count):
        count = 0 if ended is None else ended.count
        return {"episodes": plain(count)} | dict.fromkeys(lines)
    told: dict[str, Any] = {
        "episodes": plain(ended.count),
        "return_mean": plain(ended.return_sum / ended.count),
        "return_min": plain(ended.return_min),
        "return_max": plain(ended.return_max),
        "length_mean": plain(ended.length_sum / ended.count),
    }
    for i, name in enumerate(names[: np.shape(ended.info_count)[-1]]):
        told[f"info/{name}"] = mean_told(ended.info_sum[..., i], ended.info_count[..., i])
    return told


def per_seed(name: str, value: Any) -> dict[str, Any]:
    """A number by its name; a list as its mean, with the list itself as `<name>_seeds`."""
    if isinstance(value, list):
        known = [x for x in value if x is not None]
        mean = float(np.mean(known)) if known else None
        return {name: mean, f"{name}_seeds": value}
    return {name: value}
