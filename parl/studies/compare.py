"""Groups of runs compared: interquartile means with intervals, and who is better how surely.

Agarwal et al. 2021, arXiv:2108.13264. A score is one seed's return on one environment; G groups.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl import ops
from parl.core.errors import ConfigError
from parl.studies.find import GREEDY, FoundRun, grouped

FEWEST = 3  # seeds, below which an interval says nothing
ALL = "all environments"


class Summary(NamedTuple):
    """One group on one environment, or on all of them."""

    group: str
    env: str
    scores: np.ndarray  # [seeds], or [seeds, environments]
    iqm: float
    low: float | None  # of the 95 % stratified bootstrap; None for fewer than FEWEST seeds
    high: float | None
    wins: bool  # its interval lies above those of all other groups


class Comparison(NamedTuple):
    """What `parl compare` tells."""

    groups: list[str]  # [G]
    envs: list[str]
    summaries: list[Summary]
    improvement: np.ndarray  # [G, G] how likely the row's score is above the column's
    remarks: list[str]  # what a reader should know


def compare(
    runs: Sequence[FoundRun],
    by: str = "",
    key: str = GREEDY,
    at: int | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    samples: int = 2000,
) -> Comparison:
    """Compares runs, grouped by everything but the seed, or by the setting `by`.

    `key` names what is compared, `at` the environment steps up to which. `limits` gives for each
    environment the scores that count as 0 and 1; without it scores of several environments are not
    put together. Raises ConfigError for runs without that key, and environments without limits.
    """
    groups = grouped(runs, by)
    envs = list(dict.fromkeys(run.config["env"] for run in runs))
    scores = {
        (label, env): normalised(scores_of(members, env, key, at), env, limits)
        for label, members in groups.items()
        for env in envs
        if any(run.config["env"] == env for run in members)
    }
    summaries = [
        summary
        for env in envs
        for summary in summarised({g: s for (g, e), s in scores.items() if e == env}, env, samples)
    ]
    remarks = remarks_on(runs, groups, scores)
    if limits and len(envs) > 1:
        together, left_out = rectangles(scores, list(groups), envs)
        summaries += summarised(together, ALL, samples)
        remarks += left_out
    improvement = improvements(scores, list(groups), envs)
    return Comparison(list(groups), envs, summaries, improvement, remarks)


def scores_of(runs: Sequence[FoundRun], env: str, key: str, at: int | None) -> np.ndarray:
    """[seeds] of a group on one environment, rising, without those that have no number.

    Sorted, so that what is resampled does not depend on the order of the runs.
    """
    found = [run.scores(key, at) for run in runs if run.config["env"] == env]
    scores = np.concatenate(found)
    return np.sort(scores[np.isfinite(scores)])


def normalised(
    scores: np.ndarray, env: str, limits: Mapping[str, tuple[float, float]] | None
) -> np.ndarray:
    """Scores with the limits of their environment at 0 and 1."""
    if not limits:
        return scores
    if env not in limits:
        raise ConfigError(f"the table of limits has no row for {env}; it has {', '.join(limits)}.")
    low, high = limits[env]
    return (scores - low) / (high - low)


def summarised(scores: Mapping[str, np.ndarray], env: str, samples: int) -> list[Summary]:
    """A summary of each group on an environment, with the winner marked if there is one."""
    found = []
    for group, values in scores.items():
        if not len(values):
            continue
        point, low, high = ops.stratified_bootstrap(values, samples=samples)
        few = len(values) < FEWEST
        found.append(
            Summary(group, env, values, point, None if few else low, None if few else high, False)
        )
    return [each._replace(wins=is_above(each, found)) for each in found]


def is_above(one: Summary, others: Sequence[Summary]) -> bool:
    """Whether a group's interval lies above all others'; never where one of them has none."""
    rest = [each for each in others if each.group != one.group]
    return bool(rest) and all(
        one.low is not None and each.high is not None and one.low > each.high for each in rest
    )


def rectangles(
    scores: Mapping[tuple[str, str], np.ndarray], groups: Sequence[str], envs: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """([seeds, environments] of each group that has all of them, sentences on what is left out)."""
    together, left_out = {}, []
    for group in groups:
        rows = [scores.get((group, env), np.zeros(0)) for env in envs]
        seeds = min(map(len, rows))
        if not seeds:
            left_out.append(f"{group} has no run on some environment: left out of '{ALL}'")
            continue
        if max(map(len, rows)) > seeds:
            left_out.append(f"{group} has {seeds} seeds on every environment; more are not used")
        together[group] = np.stack([row[:seeds] for row in rows], 1)
    return together, left_out


def improvements(
    scores: Mapping[tuple[str, str], np.ndarray], groups: Sequence[str], envs: Sequence[str]
) -> np.ndarray:
    """[G, G] the mean over environments of how likely the row is above the column; else NaN."""

    def chance(row: str, column: str) -> float:
        pairs = [(scores.get((row, env)), scores.get((column, env))) for env in envs]
        chances = [
            ops.probability_of_improvement(a, b)
            for a, b in pairs
            if a is not None and b is not None and len(a) and len(b)
        ]
        return float(np.mean(chances)) if chances else float("nan")

    return np.array([[chance(row, column) for column in groups] for row in groups])


def remarks_on(
    runs: Sequence[FoundRun],
    groups: Mapping[str, Sequence[FoundRun]],
    scores: Mapping[tuple[str, str], np.ndarray],
) -> list[str]:
    """What a reader of the table should know."""
    found = []
    if few := [f"{g} on {e}" for (g, e), s in scores.items() if len(s) < FEWEST]:
        found.append(f"fewer than {FEWEST} seeds, so no interval: {'; '.join(few)}")
    if unfinished := [str(run.path) for run in runs if not run.result]:
        found.append(f"not finished: {', '.join(unfinished)}")
    steps = {run.env_steps for run in runs}
    if len(steps) > 1:
        found.append(f"unequal environment steps, {min(steps):,} to {max(steps):,}: see --at")
    versions = {json_key(run.config.get("versions", {})) for run in runs}
    if len(versions) > 1:
        found.append("made with different versions of the packages")
    for label, members in groups.items():
        seeds = [seed for run in members for seed in seeds_of(run)]
        if len(set(seeds)) < len(seeds):
            found.append(f"{label} has the same seed more than once on an environment")
    return found


def seeds_of(run: FoundRun) -> list[tuple[str, int]]:
    """(environment, seed) of each seed of a run."""
    first = run.config.get("seed", 0)
    return [(run.config["env"], first + k) for k in range(run.config.get("num_seeds", 1))]


def json_key(content: Any) -> str:
    """Equal for equal dicts."""
    return repr(sorted(content.items()))


def read_limits(path: Path) -> dict[str, tuple[float, float]]:
    """The table env,low,high of a CSV file. Raises ConfigError."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = {row["env"]: (float(row["low"]), float(row["high"])) for row in rows}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is no table of env,low,high: {error}.") from error
    if bad := [env for env, (low, high) in found.items() if not low < high]:
        raise ConfigError(f"{path}: low must be below high, which it is not for {bad[0]}.")
    return found


# --- tables -------------------------------------------------------------------------------------


def cell(one: Summary) -> str:
    """The interquartile mean with its interval."""
    if one.low is None or one.high is None:
        return digits(one.iqm)
    return f"{digits(one.iqm)} [{digits(one.low)}, {digits(one.high)}]"


def digits(x: float) -> str:
    """Four significant digits, and no more than two behind the point of large ones."""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.4g}"


def rows_of(comparison: Comparison) -> list[tuple[str, str, int, Summary]]:
    """(environment, group, seeds, summary), in the order of the table."""
    return [(s.env, s.group, len(s.scores), s) for s in comparison.summaries]


def markdown(comparison: Comparison) -> str:
    """The table in Markdown; a winner is bold."""
    lines = ["| environment | group | seeds | IQM [95 % interval] |", "| --- | --- | --- | --- |"]
    for env, group, seeds, one in rows_of(comparison):
        text = f"**{cell(one)}**" if one.wins else cell(one)
        lines.append(f"| {env} | {group} | {seeds} | {text} |")
    return "\n".join([*lines, "", *(f"- {remark}" for remark in comparison.remarks)]) + "\n"


def latex(comparison: Comparison) -> str:
    """The table in LaTeX, for booktabs; a winner is bold."""
    escape = lambda text: text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")
    lines = [r"\begin{tabular}{llrl}", r"\toprule"]
    lines += [r"environment & group & seeds & IQM [95\% interval] \\", r"\midrule"]
    for env, group, seeds, one in rows_of(comparison):
        text = rf"\textbf{{{cell(one)}}}" if one.wins else cell(one)
        lines.append(rf"{escape(env)} & {escape(group)} & {seeds} & {text} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "groups": comparison.groups,
        "envs": comparison.envs,
        "summaries": [{**s._asdict(), "scores": s.scores.tolist()} for s in comparison.summaries],
        "probability_of_improvement": comparison.improvement.tolist(),
        "remarks": comparison.remarks,
    }
