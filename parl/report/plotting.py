"""Learning curves as PNG files, drawn without pyplot's global state.

Axes: P points of a curve, K seeds.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from parl import ops
from parl.core.errors import ParlError, nearest
from parl.core.files import writing
from parl.report.metrics import read_metrics
from parl.report.progress import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#2a6fbb", "#e07b39", "#3a9a5b", "#c2455c", "#7b5ea7", "#8a6d4b", "#4aa7b5", "#777777")
DASHES = ("-", "--", ":", "-.")  # once the colours are used up
INK, PALE, GRID = "#222222", "#8a8f98", "#e9eaec"
LABELS = {"eval/return_mean": "greedy evaluation return", "return_mean": "training return"}
AXES = {"env_steps": "environment steps", "wall_s": "seconds", "updates": "updates"}
Series = tuple[np.ndarray, np.ndarray]  # steps [P] and values [P, K]
Runs = str | Path | Sequence[str | Path | Series]  # of one curve
CHART_POINTS = 200  # of a curve that compares runs
PAGE = '<!doctype html><meta charset="utf-8"><title>PARL</title>\n<svg{}\n'


def plot_run(run_dir: Path) -> Path:
    """Draws `curve.png` of a run, finished or not; returns its path."""
    return save(run_figure(run_dir), run_dir / "curve.png")


def plot_curves(
    curves: Mapping[str, Runs],
    out: str | Path,
    title: str = "",
    key: str = "eval/return_mean",
    statistic: Literal["iqm", "mean"] = "iqm",
    x: str = "env_steps",
    smooth: int = 1,
) -> Path:
    """Draws several experiments, label -> runs, into `out`, a png, svg or html file; returns it.

    A run is a directory or (steps [P], values [P, K]); a single directory needs no list. Each seed
    is a run of its own, or one of a run of several seeds. A curve is the statistic over seeds, its
    band the 95 % bootstrap interval. `x` is env_steps, or wall_s or updates, of which the mean over
    runs is drawn. With `smooth` each point is the mean of that number of evaluations up to it, and
    the picture says so. Raises ParlError where a run has no `key` yet.
    """
    return save(curves_figure(curves, title, key, statistic, x, smooth), Path(out))


def run_figure(run_dir: Path) -> "Figure":
    """The picture of one run: training returns pale, greedy evaluation on top."""
    records = read_metrics(run_dir)
    config, result = read_json(run_dir / "config.json"), read_json(run_dir / "result.json")
    figure, axes = new_figure(heading(config, run_dir), summary(config, result))
    train, greedy = series(records, "return_mean"), series(records, "eval/return_mean")
    if not len(train[0]) and not len(greedy[0]):
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no returns yet", transform=axes.transAxes, ha="center", color=PALE)
        return figure
    if not len(greedy[0]):
        draw_seeds(axes, *train, "training", COLORS[0])
    else:
        draw_training(axes, *train)
        draw_seeds(axes, *greedy, "greedy evaluation", COLORS[0])
        if greedy[1].shape[1] == 1:
            draw_std(axes, *greedy, series(records, "eval/return_std"))
    draw_result(axes, result)
    decorate(axes, "episode return")
    return figure


def curves_figure(
    curves: Mapping[str, Runs],
    title: str = "",
    key: str = "eval/return_mean",
    statistic: Literal["iqm", "mean"] = "iqm",
    x: str = "env_steps",
    smooth: int = 1,
) -> "Figure":
    """The picture that compares experiments."""
    name = {"iqm": "interquartile mean", "mean": "mean"}[statistic]
    subtitle = f"{name} over seeds, with its 95 % bootstrap interval"
    if smooth > 1:
        subtitle += f"; each point the mean of {smooth} evaluations"
    figure, axes = new_figure(title, subtitle)
    reduce = {"iqm": ops.iqm, "mean": np.mean}[statistic]
    for i, (label, runs) in enumerate(curves.items()):
        runs = [runs] if isinstance(runs, str | Path) else runs
        steps, values = aligned([smoothed(series_of(run, key), smooth) for run in runs])
        steps = steps if x == "env_steps" else clock(runs, x, steps)
        seeds, color = values.shape[1], COLORS[i % len(COLORS)]
        dashes = DASHES[i // len(COLORS) % len(DASHES)]
        middle, low, high = over_seeds(values, reduce)
        if seeds > 1:
            axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
            label = f"{label} ({seeds} seeds)"
        axes.plot(steps, middle, color=color, linestyle=dashes, linewidth=1.8, label=label)
    decorate(axes, LABELS.get(key, key), AXES[x])
    return figure


def profile_figure(scores: Mapping[str, np.ndarray], title: str, label: str) -> "Figure":
    """How large a share of each group's scores lies above a threshold: performance profiles."""
    figure, axes = new_figure(title, "share of seeds and environments above the score")
    every = np.concatenate([np.ravel(values) for values in scores.values()])
    reach = max(float(np.ptp(every)), 1e-6)
    thresholds = np.linspace(every.min() - 0.05 * reach, every.max() + 0.05 * reach, 400)
    for i, (name, values) in enumerate(scores.items()):
        share = ops.performance_profile(values, thresholds)
        dashes = DASHES[i // len(COLORS) % len(DASHES)]
        style = {"color": COLORS[i % len(COLORS)], "linestyle": dashes, "linewidth": 1.8}
        axes.step(thresholds, share, where="post", label=name, **style)
    decorate(axes, "share", label)
    return figure


# --- data ---------------------------------------------------------------------------------------


def series(records: list[dict[str, Any]], key: str) -> Series:
    """Steps [P] and values [P, K] of the records that have `key`, from its list if there is one.

    Missing values of some of the seeds are NaN.
    """
    points = [(r["env_steps"], r.get(f"{key}_seeds", r.get(key))) for r in records]
    points = [(steps, np.atleast_1d(np.array(x, float))) for steps, x in points]  # None: NaN
    points = [(steps, x) for steps, x in points if not np.isnan(x).all()]
    steps = np.array([steps for steps, _ in points], float)
    return steps, np.stack([x for _, x in points]) if points else np.zeros((0, 1))


def over_seeds(values: np.ndarray, reduce: Callable[..., np.ndarray] = ops.iqm) -> np.ndarray:
    """[3, P] a statistic over seeds of values [P, K] and its 95 % bootstrap interval.

    Of a single seed all three are its values.
    """
    if values.shape[1] == 1:
        return np.stack([values[:, 0]] * 3)
    return np.array([ops.stratified_bootstrap(point, reduce) for point in values]).T


def smoothed(found: Series, count: int) -> Series:
    """Each point as the mean of the last `count` points up to it, of fewer at the start."""
    steps, values = found
    means = [np.nanmean(values[max(0, i + 1 - count) : i + 1], 0) for i in range(len(values))]
    return steps, np.stack(means)


def clock(runs: Sequence[str | Path | Series], x: str, steps: np.ndarray) -> np.ndarray:
    """[P] what the clock `x` showed at environment steps [P], the mean over runs."""
    shown = [series_of(run, x) for run in runs]
    return np.mean([np.interp(steps, at, values[:, 0]) for at, values in shown], 0)


def series_of(run: str | Path | Series, key: str) -> Series:
    """The series of a run directory, or as it is. Raises ParlError if there is nothing in it."""
    if not isinstance(run, str | Path):
        return run
    run_dir = Path(run)
    records = read_metrics(run_dir)
    found = series(records, key)
    if not len(found[0]):
        hint = nearest(key, {name for record in records for name in record})
        raise ParlError(f"{run_dir} has no '{key}' to draw.{hint}")
    return found


def aligned(runs: list[Series]) -> Series:
    """All seeds of some runs on common steps [P], those that every one of them reached.

    Values between two points of a run are interpolated.
    """
    if not runs:
        raise ParlError("a curve needs at least one run directory.")
    low, high = max(steps[0] for steps, _ in runs), min(steps[-1] for steps, _ in runs)
    grid = np.unique(np.concatenate([steps for steps, _ in runs]))
    grid = grid[(grid >= low) & (grid <= high)]
    if len(grid) > CHART_POINTS:
        grid = np.linspace(low, high, CHART_POINTS)
    if not len(grid):
        raise ParlError("the runs of one curve have no steps in common.")
    columns = [interpolate(grid, steps, x) for steps, values in runs for x in values.T]
    return grid, np.stack(columns, 1)


def interpolate(grid: np.ndarray, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values [P] on the grid, across what is missing."""
    known = ~np.isnan(values)
    return np.interp(grid, steps[known], values[known])


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty if there is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def heading(config: dict[str, Any], run_dir: Path) -> str:
    """The title, such as 'PPO on CartPole-v1'."""
    if "algorithm" not in config or "env" not in config:
        return run_dir.resolve().name
    return f"{str(config['algorithm']).upper()} on {config['env']}"


def summary(config: dict[str, Any], result: dict[str, Any]) -> str:
    """The line below the title: seeds, the final result and what it took."""
    seed, count = config.get("seed"), config.get("num_seeds", 1)
    seeds = f"seed {seed}" if count == 1 else f"{count} seeds"
    parts = [] if seed is None else [seeds]
    if final := final_return(result):
        over = "seeds" if count > 1 else f"{result.get('episodes', 'the')} episodes"
        parts.append(f"final return {short(final[0])} ± {short(final[1])} over {over}")
    if "env_steps" in result and "wall_s" in result:
        parts.append(f"{result['env_steps']:,} steps in {result['wall_s']:,.0f} s")
    return "  ·  ".join(parts)


def final_return(result: dict[str, Any]) -> tuple[float, float] | None:
    """Mean and std over episodes, or over the means of several seeds; None without a result."""
    mean, std = result.get("return_mean"), result.get("return_std")
    if isinstance(mean, list):
        return (float(np.mean(mean)), float(np.std(mean))) if None not in mean else None
    return None if mean is None else (float(mean), float(std or 0))


# --- drawing ------------------------------------------------------------------------------------


def draw_training(axes: "Axes", steps: np.ndarray, values: np.ndarray) -> None:
    """Training returns as a pale line, the mean over seeds."""
    if len(steps):
        middle = np.nanmean(values, 1)
        axes.plot(steps, middle, color=PALE, linewidth=0.9, alpha=0.8, label="training", zorder=1.5)


def draw_seeds(axes: "Axes", steps: np.ndarray, values: np.ndarray, label: str, color: str) -> None:
    """A solid line; of several seeds their mean, a thin line each, and their range as a band."""
    middle, seeds = np.nanmean(values, 1), values.shape[1]
    marker = "o" if len(steps) <= 30 else ""
    mean = f"{label}, mean of {seeds} seeds" if seeds > 1 else label
    axes.plot(steps, middle, color=color, linewidth=2, marker=marker, markersize=3.5, label=mean)
    if seeds > 1:
        low, high = np.nanmin(values, 1), np.nanmax(values, 1)
        axes.plot(steps, values, color=color, linewidth=0.7, alpha=0.5, zorder=1.8)
        axes.fill_between(steps, low, high, color=color, alpha=0.12, linewidth=0, label="range")


def draw_std(axes: "Axes", steps: np.ndarray, values: np.ndarray, std: Series) -> None:
    """The band of one standard deviation over the episodes of each evaluation."""
    spread = dict(zip(std[0], std[1][:, 0], strict=True))
    width = np.array([spread.get(x, 0.0) for x in steps])
    low, high = values[:, 0] - width, values[:, 0] + width
    label = "± std over episodes"
    axes.fill_between(steps, low, high, color=COLORS[0], alpha=0.15, linewidth=0, label=label)


def draw_result(axes: "Axes", result: dict[str, Any]) -> None:
    """The final result as a ring at the end."""
    final = final_return(result)
    if final and "env_steps" in result:
        style = {"marker": "o", "markersize": 8, "markerfacecolor": "white", "markeredgewidth": 2}
        axes.plot(
            [result["env_steps"]], [final[0]], color=COLORS[1], linestyle="", label="final", **style
        )


def new_figure(title: str, subtitle: str) -> tuple["Figure", "Axes"]:
    """A figure with its title and one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=28)
    axes.annotate(
        subtitle, (0, 1), (0, 10), "axes fraction", "offset points", fontsize=9, color=PALE
    )
    return figure, axes


def decorate(axes: "Axes", ylabel: str, xlabel: str = "environment steps") -> None:
    """The style of all our curves."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=PALE, labelcolor=INK, labelsize=9, length=0)
    whole = axes.get_xlim()[1] > 10
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}" if whole else "{x:,g}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    axes.margins(x=0.02)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")


def heat_map(
    matrix: np.ndarray, names: Sequence[str], title: str, against: str, limits: tuple[float, float]
) -> "Figure":
    """The picture of a matrix [R, R] with its numbers; colours are scaled to `limits`."""
    from matplotlib.figure import Figure

    size, beside = 2.4 + 0.9 * len(matrix), 0.06 * max(map(len, names))  # inches; of the names
    figure = Figure(figsize=(size + 1.2 + beside, size + beside / 2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="RdBu", vmin=limits[0], vmax=limits[1])
    middle, half = sum(limits) / 2, (limits[1] - limits[0]) / 2
    for (i, j), x in np.ndenumerate(matrix):
        ink = "white" if abs(x - middle) > 0.6 * half else INK
        axes.text(j, i, f"{x:.2f}", ha="center", va="center", color=ink, fontsize=10)
    axes.set_xticks(range(len(matrix)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(matrix)), names)
    axes.set_xlabel(against)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    figure.colorbar(image, shrink=0.8).outline.set_visible(False)  # pyright: ignore
    return figure


def save(figure: "Figure", path: Path) -> Path:
    """Writes a figure as PNG, or as what the suffix .svg or .html says. Raises ParlError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".html":
            drawing = io.StringIO()
            figure.savefig(drawing, format="svg")
            path.write_text(PAGE.format(drawing.getvalue().partition("<svg")[2]))
        else:
            figure.savefig(path, format="svg" if path.suffix == ".svg" else "png")
    return path
