"""What smaller forms of a policy keep of its return, and what they cost: a table."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parl.core.errors import ConfigError
from parl.deploy import artefact, weights
from parl.deploy import contract as contracts
from parl.deploy.arrays import Runner
from parl.deploy.artefact import Settings, Source
from parl.deploy.program import Program
from parl.deploy.returns import half_interval, returns_of
from parl.runs.directory import write_json

FILE = "smaller.json"
CALLS = 300  # of which the median is the duration of an action


@dataclasses.dataclass(frozen=True)
class Row:
    """One form of a policy, in NumPy."""

    name: str
    num_bytes: int  # of all its numbers as they are stored, whatever they are stored in
    microseconds: float  # of one action, the median
    returns: tuple[float, ...]  # of episodes that open alike in all rows

    @property
    def mean(self) -> float:
        """The mean return."""
        return float(np.mean(self.returns))

    def kept(self, first: "Row") -> tuple[float, float]:
        """(the share of another row's return, 1 - loss / |return|; half of its interval of 95 %).

        Episodes are compared in pairs.
        """
        lost = np.subtract(first.returns, self.returns)
        scale = abs(first.mean) or 1.0
        return 1 - float(lost.mean()) / scale, half_interval(lost) / scale

    def told(self, first: "Row") -> tuple[str, ...]:
        """The cells of a table whose first row is `first`."""
        share, half = self.kept(first)
        return (
            self.name,
            f"{self.num_bytes:,}",
            f"{first.num_bytes / self.num_bytes:.1f}",
            f"{self.microseconds:.1f}",
            f"{self.mean:,.1f} ± {half_interval(self.returns):,.1f}",
            f"{100 * share:.1f} ± {100 * half:.1f} %",
        )


HEAD = ("policy", "bytes", "times smaller", "us an action", "return", "of the first")


def measured(name: str, source: Source, form: str, episodes: int, seed: int) -> Row:
    """A policy whose weights are stored as `form`. Raises ConfigError without an environment."""
    if source.factory is None:
        raise ConfigError("a policy is judged by its return, and its environment cannot be made.")
    parts = artefact.parts_of(source, Settings(weights=form))
    program = parts.programs["greedy"]
    declared, data = weights.packed(program.constants, form)
    stored = contracts.unpacked(data, {each["name"]: each for each in declared})
    runner = Runner(program._replace(constants=stored))
    returns = returns_of(source.factory, runner, parts.start, episodes, seed)
    duration = artefact.duration(runner, program, zeros(program), CALLS)
    return Row(name, weights.num_bytes(data), duration, tuple(map(float, returns)))


def zeros(program: Program) -> dict[str, np.ndarray]:
    """Inputs [1, ...] of a program."""
    shapes = {port.name: (1, *port.shape[1:]) for port in program.inputs}
    return {port.name: np.zeros(shapes[port.name], port.dtype) for port in program.inputs}


def write(place: Path, rows: Sequence[Row], told: dict[str, Any]) -> None:
    """Writes the table into a run's directory."""
    write_json(place / FILE, told | {"rows": [dataclasses.asdict(row) for row in rows]})


def read(place: Path) -> list[Row]:
    """The table in a run's directory; empty where there is none that can be read."""
    try:
        rows = json.loads((place / FILE).read_text())["rows"]
        return [Row(**row | {"returns": tuple(row["returns"])}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return []
