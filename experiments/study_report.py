"""What came of a study: curves of each seed as CSV, a Markdown table, a picture for each task.

Axes: P evaluations of a run, K seeds.
"""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from study import NOTE, Cell, Study

from parl import ops
from parl.core.errors import ConfigError
from parl.plotting import plot_curves, series_of

REFERENCE = Path(__file__).parent / "reference" / "control.csv"
YARDSTICK = "sac"  # whose published returns stand in for those of an algorithm without any


@dataclasses.dataclass(frozen=True)
class Finished:
    """A cell that has run to its end, or several of different seeds."""

    cell: Cell
    paths: list[Path]
    commands: list[str]
    settings: dict[str, Any]  # all of the recipe's
    result: dict[str, Any]
    note: dict[str, Any]
    steps: np.ndarray  # [P]
    returns: np.ndarray  # [P, K], greedy

    def at(self, mark: int) -> tuple[int, np.ndarray]:
        """(steps, returns [K]) of the evaluation nearest to that many steps."""
        nearest = int(np.abs(self.steps - mark).argmin())
        return int(self.steps[nearest]), self.returns[nearest]


class Published(NamedTuple):
    """A row of the reference: see its columns."""

    recipe: str
    algo: str
    env: str
    version: str
    steps: int
    mean: float
    std: float | None
    source: str

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {self.std:,.0f}"
        return f"{self.mean:,.0f}{spread} ({self.algo}, {self.version}, {self.steps // 1000}k)"


def write(study: Study, out: Path, results: Path) -> None:
    """Writes the results of the cells that are finished."""
    found = [read(cell, out / cell.name) for cell in study.cells]
    rows = by_seeds([row for row in found if row is not None])
    if not rows:
        return
    results.mkdir(parents=True, exist_ok=True)
    write_curves(rows, results / f"{study.name}.csv")
    pictures = []
    for env in dict.fromkeys(row.cell.env for row in rows):
        curves = {row.cell.label: row.paths for row in rows if row.cell.env == env}
        picture = results / f"{study.name}-{env.replace(':', '-').replace('?', '-')}.png"
        pictures.append(plot_curves(curves, picture, title=env).name)
    missing = [cell.name for cell, row in zip(study.cells, found, strict=True) if row is None]
    text = markdown(study, rows, published(), missing, pictures)
    (results / f"{study.name}.md").write_text(text)


def read(cell: Cell, path: Path) -> Finished | None:
    """The outcome of a cell; None before its end, and where another cell has run."""
    if not (path / "result.json").exists():
        return None
    config, result, note = (
        json.loads((path / name).read_text()) for name in ("config.json", "result.json", NOTE)
    )
    if cell.identity != {name: note[name] for name in cell.identity}:
        return None
    steps, returns = series_of(path, "eval/return_mean")
    return Finished(cell, [path], [cell.command], config["settings"], result, note, steps, returns)


def by_seeds(rows: list[Finished]) -> list[Finished]:
    """The rows, those that differ in their seeds alone as one of all of these seeds."""
    groups: list[list[Finished]] = []
    for row in rows:
        kind = lambda cell: (cell.label, cell.env, cell.but_seeds)
        same = (group for group in groups if kind(group[0].cell) == kind(row.cell))
        group = next(same, None)
        if group is None:
            groups.append(group := [])
        group.append(row)
    return [joined(group) for group in groups]


def joined(rows: list[Finished]) -> Finished:
    """Cells of different seeds as one, up to where the shortest of them ended."""
    first, points = rows[0], min(len(row.steps) for row in rows)
    commits = dict.fromkeys(commit for row in rows for commit in row.note["commits"])
    seeds = [seed for row in rows for seed in row.result["seeds"]]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"cells of {first.cell.name} ran the same seed: {seeds}; change a 'seed'."
        )
    result = {
        "seeds": seeds,
        "env_steps": min(row.result["env_steps"] for row in rows),
        "wall_s": sum(row.result["wall_s"] for row in rows),
    }
    return dataclasses.replace(
        first,
        paths=[path for row in rows for path in row.paths],
        commands=[command for row in rows for command in row.commands],
        result=first.result | result,
        note=first.note | {"commits": list(commits)},
        steps=first.steps[:points],
        returns=np.concatenate([row.returns[:points] for row in rows], 1),
    )


def write_curves(rows: list[Finished], path: Path) -> None:
    """One line for each evaluation of each seed."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["label", "env", "seed", "steps", "return"])
        for row in rows:
            for k, seed in enumerate(row.result["seeds"]):
                for steps, value in zip(row.steps, row.returns[:, k], strict=True):
                    lines.writerow([row.cell.label, row.cell.env, seed, int(steps), f"{value:.2f}"])


def published() -> list[Published]:
    """The reference."""
    with REFERENCE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    number = lambda text: float(text) if text else None
    return [
        Published(**row | {"steps": int(row["steps"]), "mean": float(row["mean"])}
                  | {"std": number(row["std"])})
        for row in rows
    ]  # fmt: skip


def beside(cell: Cell, steps: int, reference: list[Published]) -> list[Published]:
    """The rows of a cell's algorithm and task at the nearest step count, or the yardstick's."""
    task = cell.env if ":" in cell.env else cell.env.rpartition("-")[0]
    for recipe in (cell.algorithm, YARDSTICK):
        rows = [row for row in reference if (row.recipe, row.env) == (recipe, task)]
        if rows:
            nearest = min(rows, key=lambda row: abs(row.steps - steps)).steps
            return [row for row in rows if row.steps == nearest]
    return []


def markdown(
    study: Study,
    rows: list[Finished],
    reference: list[Published],
    missing: list[str],
    pictures: list[str],
) -> str:
    """The table, how to run each of its rows, and the sources of the published ones."""
    heads = ["algorithm", "task", "steps", "seeds", "return of each seed", "mean",
             "IQM (95 % interval)", "published", "width", "updates a step", "GFLOP a step",
             "wall, s", "commit"]  # fmt: skip
    lines = [f"# {study.title}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    sources: dict[str, str] = {}
    for row in rows:
        for mark in sorted({*study.at, row.result["env_steps"]}):
            if mark > row.result["env_steps"]:
                continue
            steps, returns = row.at(mark)
            others = beside(row.cell, steps, reference)
            sources |= {f"{other.algo}, {other.version}": other.source for other in others}
            lines.append(line(row, steps, returns, others))
    lines += ["", *aggregate(rows, reference)]
    if missing:
        lines += [f"Not finished: {', '.join(missing)}.", ""]
    devices = "; ".join(dict.fromkeys(row.note["device"] for row in rows))
    said = f"Wall time is of all seeds together, evaluation included, on {devices}. Commands:"
    lines += [said, "", "```sh"]
    lines += [*(command for row in rows for command in row.commands), "```", ""]
    lines += [f"- {name}: {source}" for name, source in sources.items()]
    lines += ["", *(f"![{name}]({name})" for name in pictures)]
    return "\n".join(lines) + "\n"


def line(row: Finished, steps: int, returns: np.ndarray, others: list[Published]) -> str:
    """One row of the table."""
    point, low, high = ops.stratified_bootstrap(returns)
    settings, note, is_last = row.settings, row.note, steps >= row.result["env_steps"]
    updates = "-"
    if "updates" in settings:
        updates = f"{settings['updates'] / (settings['length'] * settings['num_envs']):g}"
    seeds = row.result["seeds"]
    in_order = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    named = f"{seeds[0]}-{seeds[-1]}" if in_order else ", ".join(map(str, seeds))
    cells = [row.cell.label, row.cell.env, f"{steps:,}", named,
             ", ".join(f"{x:,.0f}" for x in returns),
             f"**{returns.mean():,.0f}**", f"{point:,.0f} ({low:,.0f} to {high:,.0f})",
             "; ".join(map(str, others)) or "-", width(settings), updates,
             f"{note['gflop_per_step']:.2f}",
             f"{row.result['wall_s']:,.0f}" if is_last else "-",
             ", ".join(note["commits"])]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def width(settings: dict[str, Any]) -> str:
    """The networks' widths: of the critics, where they differ from the actor's."""
    if "hidden" in settings:
        show = lambda prefix: "x".join(map(str, settings[f"{prefix}hidden"])) or "-"
        actor = "actor_hidden" in settings
    else:
        show = lambda prefix: f"{settings[f'{prefix}width']} ({settings[f'{prefix}blocks']} blocks)"
        actor = "actor_width" in settings
    return f"{show('')}, actor {show('actor_')}" if actor else show("")


def aggregate(rows: list[Finished], reference: list[Published]) -> list[str]:
    """Over several tasks: final returns in units of the yardstick's published ones."""
    tasks = list(dict.fromkeys(row.cell.env for row in rows))
    lines = []
    for label in dict.fromkeys(row.cell.label for row in rows):
        scores = []
        for row in (row for row in rows if row.cell.label == label):
            yardstick = Cell(YARDSTICK, row.cell.env, "", {})
            others = beside(yardstick, row.result["env_steps"], reference)
            if others:
                scores.append(row.returns[-1] / others[0].mean)
        seeds = min(map(len, scores), default=0)
        if len(tasks) > 1 and len(scores) == len(tasks):
            table = np.stack([score[:seeds] for score in scores], 1)  # [K, tasks]
            point, low, high = ops.stratified_bootstrap(table)
            lines.append(f"| {label} | {point:.2f} ({low:.2f} to {high:.2f}) |")
    if not lines:
        return []
    head = f"| algorithm | IQM over {len(tasks)} tasks, in published returns of {YARDSTICK} |"
    return [head, "|---|---|", *lines, ""]
