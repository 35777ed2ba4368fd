"""A picture of how the forms of an exported policy compare with JAX."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from parl.report.plotting import COLORS, GRID, INK, PALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CASES = ("recorded", "adversarial", "sampled")
LEAST = 1e-9  # where an error of zero is drawn; one of more than 1 is drawn at 1


def parity_figure(report: Mapping[str, Any]) -> "Figure":
    """Largest errors, returns and sizes of every form in a report as parity.json holds it."""
    from matplotlib.figure import Figure

    forms: dict[str, Any] = report["forms"]
    wanted = report.get("jax")
    figure = Figure(figsize=(11 if wanted else 7.5, 3.2), dpi=110, layout="constrained")
    axes = figure.subplots(1, 3 if wanted else 2)
    draw_errors(axes[0], forms, report["tolerance"])
    if wanted:
        draw_returns(axes[1], {"jax": wanted} | {n: each["returns"] for n, each in forms.items()})
    axes[-1].bar(range(len(forms)), [each["bytes"] / 1024 for each in forms.values()], color=PALE)
    axes[-1].set_xticks(range(len(forms)), list(forms))
    titled(axes[-1], "KB")
    return figure


def draw_errors(axes: "Axes", forms: Mapping[str, Any], allowed: float) -> None:
    """The largest error of each form on each kind of observations, on a logarithmic scale."""
    for k, case in enumerate(CASES):
        found = {
            i: each[case]["max_error"] for i, each in enumerate(forms.values()) if case in each
        }
        places = [i + 0.25 * (k - 1) for i in found]
        heights = [min(max(x, LEAST), 1.0) for x in found.values()]
        axes.bar(places, heights, 0.25, label=case, color=COLORS[k])
    axes.axhline(allowed, color=INK, linestyle=":", label="allowed")
    axes.set_yscale("log")
    axes.set_ylim(LEAST / 2, 10)
    axes.set_xticks(range(len(forms)), list(forms))
    axes.legend(fontsize=7, frameon=False, ncols=2)
    titled(axes, "largest error, of its scale")


def draw_returns(axes: "Axes", told: Mapping[str, Any]) -> None:
    """Mean returns with their intervals."""
    means, intervals = (
        [each[key] for each in told.values()] for key in ("return_mean", "interval")
    )
    axes.errorbar(range(len(told)), means, intervals, fmt="o", color=COLORS[0], capsize=3)
    axes.set_xticks(range(len(told)), list(told))
    titled(axes, "return, with 95 % interval")


def titled(axes: "Axes", title: str) -> None:
    """The style of all of them."""
    axes.set_title(title, fontsize=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=PALE, labelcolor=INK, labelsize=8, length=0)
