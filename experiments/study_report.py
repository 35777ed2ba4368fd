"""What came of a study: curves of each seed as CSV, a Markdown table, a picture for each task."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import study_record
from study import Cell, Study
from study_record import Record

from parl import ops
from parl.report.plotting import plot_curves

REFERENCE = Path(__file__).parent / "reference" / "control.csv"
YARDSTICK = "sac"  # whose published returns stand in for those of an algorithm without any


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
    """Keeps what came of the runs in `out`, and writes the results of all cells with a record."""
    for cell in study.cells:
        if (record := study_record.of_run(cell, out / cell.name)) is not None:
            record.write(results)
    found = [study_record.read(cell, results) for cell in study.cells]
    rows = study_record.by_seeds([row for row in found if row is not None])
    if not rows:
        return
    write_curves(rows, results / f"{study.name}.csv")
    pictures = []
    for env in dict.fromkeys(row.cell.env for row in rows):
        curves = {row.cell.label: [(row.steps, row.returns)] for row in rows if row.cell.env == env}
        picture = results / f"{study.name}-{env.replace(':', '-').replace('?', '-')}.png"
        pictures.append(plot_curves(curves, picture, title=env).name)
    missing = [cell.name for cell, row in zip(study.cells, found, strict=True) if row is None]
    text = markdown(study, rows, published(), missing, pictures)
    (results / f"{study.name}.md").write_text(text)


def write_curves(rows: list[Record], path: Path) -> None:
    """One line for each evaluation of each seed."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["label", "env", "seed", "steps", "return"])
        for row in rows:
            for k, seed in enumerate(row.seeds):
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
    rows: list[Record],
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
        for mark in sorted({*study.at, row.env_steps}):
            if mark > row.env_steps:
                continue
            steps, returns = row.at(mark)
            others = beside(row.cell, steps, reference)
            sources |= {f"{other.algo}, {other.version}": other.source for other in others}
            lines.append(line(row, steps, returns, others))
    lines += ["", *aggregate(rows, reference)]
    if missing:
        lines += [f"Not finished: {', '.join(missing)}.", ""]
    devices = "; ".join(dict.fromkeys(row.device for row in rows))
    said = f"Wall time is of all seeds together, evaluation included, on {devices}. Commands:"
    lines += [said, "", "```sh"]
    lines += [*(command for row in rows for command in row.commands), "```", ""]
    lines += [f"- {name}: {source}" for name, source in sources.items()]
    lines += ["", *(f"![{name}]({name})" for name in pictures)]
    return "\n".join(lines) + "\n"


def line(row: Record, steps: int, returns: np.ndarray, others: list[Published]) -> str:
    """One row of the table."""
    point, low, high = ops.stratified_bootstrap(returns)
    is_last = steps >= row.env_steps
    cells = [row.cell.label, row.cell.env, f"{steps:,}", names(row.seeds),
             ", ".join(f"{x:,.0f}" for x in returns),
             f"**{returns.mean():,.0f}**", f"{point:,.0f} ({low:,.0f} to {high:,.0f})",
             "; ".join(map(str, others)) or "-", row.width, row.updates,
             f"{row.gflop_per_step:.2f}",
             f"{row.wall_s:,.0f}" if is_last else "-",
             ", ".join(row.commits)]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def names(seeds: list[int]) -> str:
    """Seeds for people: the first and the last of those that follow each other."""
    follow = len(seeds) > 1 and seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]}-{seeds[-1]}" if follow else ", ".join(map(str, seeds))


def aggregate(rows: list[Record], reference: list[Published]) -> list[str]:
    """Over several tasks: final returns in units of the yardstick's published ones."""
    tasks = list(dict.fromkeys(row.cell.env for row in rows))
    lines = []
    for label in dict.fromkeys(row.cell.label for row in rows):
        scores = []
        for row in (row for row in rows if row.cell.label == label):
            yardstick = Cell(YARDSTICK, row.cell.env, "", {})
            others = beside(yardstick, row.env_steps, reference)
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
