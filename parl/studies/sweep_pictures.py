"""The table and the picture of a sweep, as files."""

import csv
import io
from typing import Any

import numpy as np

from parl.core.files import write_text
from parl.report.plotting import read_json, save
from parl.report.sweeps import Axis, along_figure, parallel_figure
from parl.studies.space import Range
from parl.studies.sweep import STUDY, Study, importance, text


def write(study: Study) -> None:
    """Writes sweep.csv and sweep.png; no picture where no trial has a score."""
    rows = io.StringIO()
    table = csv.writer(rows)
    table.writerow(["trial", *study.space, "return", "low", "high", "wall_s", "error"])
    for trial in study.trials:
        spent = trial.result.get("wall_s", "")
        values = trial.settings.values()
        table.writerow([trial.path.name, *values, *ends(trial.result), spent, trial.error])
    write_text(study.path / "sweep.csv", rows.getvalue())
    if any(np.isfinite(trial.score) for trial in study.trials):
        save(figure_of(study), study.path / "sweep.png")


def ends(result: dict[str, Any]) -> list[Any]:
    """Mean, low and high of a result's return; empty texts without one."""
    final = result.get("return") or {}
    return [final.get(name, "") for name in ("mean", "low", "high")]


def figure_of(study: Study) -> Any:
    """The picture of a study."""
    about = read_json(study.path / STUDY)
    seeds = about.get("settings", {}).get("num_seeds", 1)
    title = f"{about.get('algorithm', '')} on {about.get('env', '')}"
    count = f"{len(study.trials)} trials, {seeds} seed{'s' * (seeds != 1)} each"
    axes = [axis_of(study, name) for name in study.space]
    if len(axes) > 1:
        scores = np.array([trial.score for trial in study.trials])
        return parallel_figure(axes, scores, importance(study), f"{title}: {count}")
    final = [trial.result.get("return") or {"seeds": [np.nan] * seeds} for trial in study.trials]
    returns = np.array([each["seeds"] for each in final], float)
    return along_figure(axes[0], returns, title, count)


def axis_of(study: Study, name: str) -> Axis:
    """A setting's axis."""
    each, values = study.space[name], [trial.settings[name] for trial in study.trials]
    if isinstance(each, Range):
        marks = [(share, text(each.at(share))) for share in (0.0, 0.5, 1.0)]
        heights = np.array([each.share(value) for value in values])
        return Axis(name, np.array(values, float), heights, marks, each.log)
    places = np.array([each.values.index(value) for value in values])
    labels = [text(value) for value in each.values]
    heights = (np.arange(len(labels)) + 0.5) / len(labels)
    marks = list(zip(heights.tolist(), labels, strict=True))
    return Axis(name, places, heights[places], marks, choices=labels)
