"""What is kept of a cell that has run to its end: results/cells/NAME.json.

Reports are drawn from these records and not from the runs, which are large and stay on their
machine: so rows of several machines stand in one table. Axes: P evaluations of a run, K seeds.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from study import NOTE, Cell

from parl.core.errors import ConfigError
from parl.core.files import write_json
from parl.report.plotting import series_of

FOLDER = "cells"  # of the records, among the results


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished cell, or several of different seeds."""

    cell: Cell
    commands: list[str]
    seeds: list[int]
    env_steps: int  # of each seed
    wall_s: float  # of all seeds together, evaluation included
    width: str  # of the networks
    updates: str  # for a step of one environment
    gflop_per_step: float
    device: str
    commits: list[str]
    steps: np.ndarray  # [P]
    returns: np.ndarray  # [P, K], greedy

    def at(self, mark: int) -> tuple[int, np.ndarray]:
        """(steps, returns [K]) of the evaluation nearest to that many steps."""
        nearest = int(np.abs(self.steps - mark).argmin())
        return int(self.steps[nearest]), self.returns[nearest]

    def write(self, results: Path) -> None:
        """Keeps it among the results."""
        path = file_of(self.cell, results)
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields |= {"steps": self.steps.tolist(), "returns": self.returns.round(2).tolist()}
        del fields["cell"], fields["commands"]
        write_json(path, self.cell.identity | fields, indent=None)


def file_of(cell: Cell, results: Path) -> Path:
    return results / FOLDER / f"{cell.name}.json"


def read(cell: Cell, results: Path) -> Record | None:
    """The record of a cell; None if there is none, or one of other settings.

    Raises ConfigError where the file holds something else.
    """
    file = file_of(cell, results)
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text())
        if cell.identity != {name: found.pop(name) for name in cell.identity}:
            return None
        curves = {name: np.array(found.pop(name), float) for name in ("steps", "returns")}
        return Record(cell, [cell.command], **found, **curves)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{file} is not the record of a cell ({error!r}): delete it and run the cell again."
        ) from error


def of_run(cell: Cell, path: Path) -> Record | None:
    """What came of a cell's run; None before its end, and where another cell has run."""
    if not (path / "result.json").exists():
        return None
    config, result, note = (
        json.loads((path / name).read_text()) for name in ("config.json", "result.json", NOTE)
    )
    if cell.identity != {name: note[name] for name in cell.identity}:
        return None
    steps, returns = series_of(path, "eval/return_mean")
    settings = config["settings"]
    return Record(
        cell,
        [cell.command],
        **{name: result[name] for name in ("seeds", "env_steps", "wall_s")},
        width=width(settings),
        updates=updates(settings),
        **{name: note[name] for name in ("gflop_per_step", "device", "commits")},
        steps=steps,
        returns=returns,
    )


def width(settings: dict[str, Any]) -> str:
    """The networks' widths: of the critics, where they differ from the actor's."""
    if "hidden" in settings:
        show = lambda prefix: "x".join(map(str, settings[f"{prefix}hidden"])) or "-"
        actor = "actor_hidden" in settings
    else:
        show = lambda prefix: f"{settings[f'{prefix}width']} ({settings[f'{prefix}blocks']} blocks)"
        actor = "actor_width" in settings
    return f"{show('')}, actor {show('actor_')}" if actor else show("")


def updates(settings: dict[str, Any]) -> str:
    """Updates for a step of one environment, where they are counted so."""
    if "updates" not in settings:
        return "-"
    return f"{settings['updates'] / (settings['length'] * settings['num_envs']):g}"


def by_seeds(rows: list[Record]) -> list[Record]:
    """The rows, those that differ in their seeds alone as one of all of these seeds."""
    groups: list[list[Record]] = []
    for row in rows:
        kind = lambda cell: (cell.label, cell.env, cell.but_seeds)
        same = (group for group in groups if kind(group[0].cell) == kind(row.cell))
        group = next(same, None)
        if group is None:
            groups.append(group := [])
        group.append(row)
    return [joined(group) for group in groups]


def joined(rows: list[Record]) -> Record:
    """Cells of different seeds as one, up to where the shortest of them ended.

    Raises ConfigError for a seed that two of them ran.
    """
    first, points = rows[0], min(len(row.steps) for row in rows)
    seeds = [seed for row in rows for seed in row.seeds]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"cells of {first.cell.name} ran the same seed: {seeds}; change a 'seed'."
        )
    return dataclasses.replace(
        first,
        commands=[command for row in rows for command in row.commands],
        seeds=seeds,
        env_steps=min(row.env_steps for row in rows),
        wall_s=sum(row.wall_s for row in rows),
        commits=list(dict.fromkeys(commit for row in rows for commit in row.commits)),
        steps=first.steps[:points],
        returns=np.concatenate([row.returns[:points] for row in rows], 1),
    )
