"""The table and the picture of a sweep, as files."""

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from parl.report.metrics import explained
from parl.report.plotting import COLORS, INK, PALE, decorate, new_figure, read_json, save
from parl.studies.space import Range
from parl.studies.sweep import STUDY, Study, importance, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write(study: Study) -> None:
    """Writes sweep.csv and sweep.png."""
    rows = io.StringIO()
    table = csv.writer(rows)
    table.writerow(["trial", *study.space, "return", "low", "high", "wall_s", "error"])
    for trial in study.trials:
        final = trial.result.get("return") or {}
        ends = [final.get(name, "") for name in ("mean", "low", "high")]
        spent = trial.result.get("wall_s", "")
        table.writerow([trial.path.name, *trial.settings.values(), *ends, spent, trial.error])
    with explained(study.path):
        (study.path / "sweep.csv").write_text(rows.getvalue())
    if any(np.isfinite(trial.score) for trial in study.trials):
        save(figure_of(study), study.path / "sweep.png")


def figure_of(study: Study) -> "Figure":
    """One setting: returns along it. Several: parallel axes, and how much each matters."""
    about = read_json(study.path / STUDY)
    seeds = about.get("settings", {}).get("num_seeds", 1)
    title = f"{about.get('algorithm', '')} on {about.get('env', '')}"
    count = f"{len(study.trials)} trials, {seeds} seed{'s' * (seeds != 1)} each"
    if len(study.space) == 1:
        return along(study, title, f"{count}; bars: 95 % t interval over seeds")
    return parallel(study, title, count)


def along(study: Study, title: str, subtitle: str) -> "Figure":
    """Returns by the values of the only setting."""
    ((name, each),) = study.space.items()
    figure, axes = new_figure(title, subtitle)
    trials = [trial for trial in study.trials if np.isfinite(trial.score)]
    xs = places(each, [trial.settings[name] for trial in trials])
    final: list[dict[str, Any]] = [trial.result["return"] for trial in trials]
    mean = np.array([f["mean"] for f in final])
    ends = np.array([[f["mean"] - f["low"], f["high"] - f["mean"]] for f in final]).T
    axes.errorbar(xs, mean, ends, fmt="o", color=COLORS[0], capsize=2, label="return")
    lost = [trial.settings[name] for trial in study.trials if not np.isfinite(trial.score)]
    if lost:
        floor = np.full(len(lost), mean.min())
        axes.plot(places(each, lost), floor, "x", color=COLORS[1], label="diverged")
    decorate(axes, "return", name)
    label_axis(axes, each)
    return figure


def parallel(study: Study, title: str, subtitle: str) -> "Figure":
    """A line for each trial through its settings, coloured by return; bars of importance."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    figure.suptitle(f"{title}: {subtitle}", fontsize=12, fontweight="bold", color=INK)
    lines, bars = figure.subplots(2, 1, height_ratios=[4, 1 + 0.2 * len(study.space)])
    scores = np.array([trial.score for trial in study.trials])
    scale = Normalize(np.nanmin(scores), max(np.nanmax(scores), np.nanmin(scores) + 1e-9))
    colours = colormaps["viridis"]
    for trial in reversed(study.ranked):  # the best on top
        shares = [share(each, trial.settings[name]) for name, each in study.space.items()]
        good = np.isfinite(trial.score)
        colour = colours(scale(trial.score)) if good else PALE
        lines.plot(shares, color=colour, linewidth=1.4, alpha=0.8, linestyle="-" if good else ":")
    lines.set_xticks(range(len(study.space)), list(study.space))
    lines.set_yticks([])
    lines.set_ylim(-0.04, 1.04)
    lines.spines[:].set_visible(False)
    for i, each in enumerate(study.space.values()):
        lines.axvline(i, color=INK, linewidth=0.8)
        for place, label in ticks(each):
            lines.annotate(label, (i, place), (4, 0), textcoords="offset points", fontsize=8)
    figure.colorbar(ScalarMappable(scale, "viridis"), ax=lines, label="return")
    found = importance(study)
    bars.barh(list(found), list(found.values()), color=COLORS[0])
    bars.set_xlim(0, 1)
    bars.invert_yaxis()
    bars.set_xlabel("share of the variance of ranks that a setting explains alone", fontsize=9)
    bars.spines[["top", "right"]].set_visible(False)
    if not found:
        bars.set_yticks([])
        bars.annotate("too few trials", (0.5, 0.5), xycoords="axes fraction", ha="center")
    return figure


def share(each: Any, value: Any) -> float:
    """The height of a value on its axis, in [0, 1]."""
    if isinstance(each, Range):
        return each.share(value)
    return (each.values.index(value) + 0.5) / len(each.values)


def ticks(each: Any) -> list[tuple[float, str]]:
    """(height, label) of the marks on an axis."""
    if isinstance(each, Range):
        return [(s, text(each.at(s))) for s in (0.0, 0.5, 1.0)]
    return [(share(each, value), text(value)) for value in each.values]


def places(each: Any, values: list[Any]) -> list[float]:
    """Where values lie on the horizontal axis."""
    return values if isinstance(each, Range) else [each.values.index(value) for value in values]


def label_axis(axes: "Axes", each: Any) -> None:
    """A logarithmic axis for a logarithmic range, names for choices."""
    if not isinstance(each, Range):
        axes.set_xticks(range(len(each.values)), [text(value) for value in each.values])
    elif each.log:
        axes.set_xscale("log")
