"""The pictures of a sweep: returns along one setting, or parallel axes of several."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parl.report.plotting import COLORS, INK, PALE, decorate, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Axis(NamedTuple):
    """One setting of a sweep; n trials."""

    name: str
    values: np.ndarray  # [n] of a range, or the indices of choices
    heights: np.ndarray  # [n] of each trial on the axis, in [0, 1]
    marks: Sequence[tuple[float, str]]  # height and label
    log: bool = False
    choices: Sequence[str] = ()  # labels of the indices; empty for a range


def along_figure(axis: Axis, returns: np.ndarray, title: str, subtitle: str) -> "Figure":
    """Returns [n, seeds] (NaN for trials that diverged) along the only setting, and their means."""
    from matplotlib.ticker import NullFormatter

    figure, axes = new_figure(title, subtitle)
    means = returns.mean(1)
    good, order = np.isfinite(means), np.argsort(axis.values)
    if returns.shape[1] > 1:
        places = np.repeat(axis.values, returns.shape[1])
        axes.plot(places, returns.ravel(), "o", color=COLORS[0], alpha=0.3, label="a seed")
    kept = order[good[order]]
    axes.plot(axis.values[kept], means[kept], "o-", color=COLORS[0], label="return")
    if not good.all():
        floor = np.full((~good).sum(), np.nanmin(returns))
        axes.plot(axis.values[~good], floor, "x", color=COLORS[1], label="diverged")
    decorate(axes, "return", axis.name)
    axes.margins(x=0.05)  # room for the number below the last mark
    if axis.choices:
        axes.set_xticks(range(len(axis.choices)), axis.choices)
    elif axis.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    return figure


def parallel_figure(
    settings: Sequence[Axis], scores: np.ndarray, importance: Mapping[str, float], title: str
) -> "Figure":
    """A line for each trial through its settings, coloured by its score [n]; bars of importance."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold", color=INK)
    lines, bars = figure.subplots(2, 1, height_ratios=[4, 1 + 0.2 * len(settings)])
    least = np.nanmin(scores)
    scale = Normalize(least, max(np.nanmax(scores), least + 1e-9))
    colours = colormaps["viridis"]
    for i in np.argsort(np.where(np.isfinite(scores), scores, -np.inf)):  # the best on top
        heights, good = [axis.heights[i] for axis in settings], np.isfinite(scores[i])
        colour = colours(scale(scores[i])) if good else PALE
        lines.plot(heights, color=colour, linewidth=1.4, alpha=0.8, linestyle="-" if good else ":")
    lines.set_xticks(range(len(settings)), [axis.name for axis in settings])
    lines.set_yticks([])
    lines.set_ylim(-0.04, 1.04)
    lines.spines[:].set_visible(False)
    for i, axis in enumerate(settings):
        lines.axvline(i, color=INK, linewidth=0.8)
        for place, label in axis.marks:
            lines.annotate(label, (i, place), (4, 0), textcoords="offset points", fontsize=8)
    figure.colorbar(ScalarMappable(scale, "viridis"), ax=lines, label="return")
    bars.barh(list(importance), list(importance.values()), color=COLORS[0])
    bars.set_xlim(0, 1)
    bars.invert_yaxis()
    bars.set_xlabel("share of the variance of ranks that a setting explains alone", fontsize=9)
    bars.spines[["top", "right"]].set_visible(False)
    if not importance:
        bars.set_yticks([])
        bars.annotate("too few trials", (0.5, 0.5), xycoords="axes fraction", ha="center")
    return figure
