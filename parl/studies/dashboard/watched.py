"""What the dashboard shows of runs, as JSON; it reads config, metrics and result, nothing else.

P points of a curve. A run's name is its path below the watched directory.
"""

import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ConfigError, ParlError
from parl.report.metrics import METRICS, plain
from parl.report.plotting import LABELS, aligned, clock, over_seeds, series
from parl.studies.find import (
    GREEDY,
    TRAINING,
    FoundRun,
    age,
    configs_below,
    described,
    differing,
    grouped,
    run_of,
)

READ = ("config.json", METRICS, "result.json")
PICTURES = {".mp4": "video/mp4", ".webm": "video/webm", ".gif": "image/gif", ".png": "image/png"}
CLOCKS = ("env_steps", "wall_s", "updates")
PHASES = ("start_s", "compile_s", "train_s", "eval_s", "save_s")
SMALL_POINTS = 120  # of a small curve
KEPT_CURVES = 16  # answers, beside the newest one
Stamp = tuple[tuple[int, int] | None, ...]  # (size, time of change) of each file that is read


class Kept(NamedTuple):
    """A run as it was read, and the stamp of its files at that time."""

    stamp: Stamp
    run: FoundRun


class Watched:
    """The runs in and below a directory, each read again once its files have changed."""

    def __init__(self, place: Path):
        if not place.is_dir():
            raise ConfigError(f"there is no directory {place}.")
        self.place = place.resolve()
        self.kept: dict[str, Kept] = {}
        self.curves: dict[tuple, list[dict[str, Any]]] = {}
        self.lock = threading.Lock()

    def runs(self) -> dict[str, FoundRun]:
        """All runs by their names, in the order of the names."""
        with self.lock:
            found = {}
            for path, config in configs_below(self.place):
                name = path.relative_to(self.place).as_posix() if path != self.place else path.name
                if (stamp := self.stamp(path)) is None:
                    continue
                kept = self.kept.get(name)
                if kept is None or kept.stamp != stamp:
                    kept = Kept(stamp, run_of(path, config))
                found[name] = kept
            self.kept = dict(sorted(found.items()))
            return {name: kept.run for name, kept in self.kept.items()}

    def stamp(self, path: Path) -> Stamp | None:
        """The stamp of a run's files; None where one of them is elsewhere or no plain file."""
        found: list[tuple[int, int] | None] = []
        for name in READ:
            file = path / name
            if not os.path.lexists(file):
                found.append(None)
                continue
            if not self.holds(file):
                return None
            about = file.stat()
            found.append((about.st_size, about.st_mtime_ns))
        return tuple(found)

    def holds(self, file: Path) -> bool:
        """Whether a path leads to a plain file of the watched directory."""
        try:
            real = file.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            return False
        return real.is_file() and real.is_relative_to(self.place)

    # --- what is told -----------------------------------------------------------------------

    def overview(self) -> dict[str, Any]:
        """All runs, and the settings that differ between those of one algorithm and environment."""
        runs = self.runs()
        rows = [row_of(name, run) for name, run in runs.items()]
        return {"place": str(self.place), "runs": rows, "metrics": metrics_of(runs.values())}

    def compared(self, names: Sequence[str], metric: str, x: str, by: str) -> dict[str, Any]:
        """The curves of some runs' groups, and a table of the settings that differ.

        Raises ConfigError for runs, clocks and settings that there are not.
        """
        if x not in CLOCKS:
            raise ConfigError(f"there is no axis '{x}'; known: {', '.join(CLOCKS)}.")
        runs = self.runs()
        names = list(dict.fromkeys(names))
        chosen = [self.named(name, runs) for name in names]
        key = (*names, metric, x, by, *(self.kept[name].stamp for name in names))
        found = self.curves.get(key)
        if found is None:
            found = curves(chosen, metric, x, by)
            newest = list(self.curves.items())[-KEPT_CURVES:]
            self.curves = {**dict(newest), key: found}
        keys = differing(chosen)
        table = [[text(described(run).get(k)) for k in keys] for run in chosen]
        settings = {"names": keys, "runs": dict(zip(names, table, strict=True))}
        return {"curves": found, "label": LABELS.get(metric, metric), "settings": settings}

    def told(self, name: str) -> dict[str, Any]:
        """All of one run: settings, result, times, small curves, and pictures of its policy."""
        run = self.named(name, self.runs())
        last = run.records[-1] if run.records else {}
        health = {key: found for key in small_keys(run) if (found := small(run, key))}
        return {
            **row_of(name, run),
            "settings": {key: text(value) for key, value in described(run).items()},
            "result": run.result.get("return"),
            "seconds": {key[:-2]: last.get(key) for key in PHASES if last.get(key) is not None},
            "health": {k: v for k, v in health.items() if not k.startswith("pool/")},
            "workers": {k[5:]: v for k, v in health.items() if k.startswith("pool/")},
            "pictures": [file.name for file in sorted(run.path.iterdir()) if self.shows(file)],
        }

    def picture(self, name: str, file: str) -> tuple[Path, str]:
        """(path, media type) of a picture or video in a run's directory. Raises ConfigError."""
        path = self.named(name, self.runs()).path / file
        if Path(file).name != file or not self.shows(path):
            raise ConfigError(f"run {name} has no picture '{file}'.")
        return path, PICTURES[path.suffix]

    def shows(self, file: Path) -> bool:
        """Whether a file is a picture or video of the watched directory."""
        return file.suffix in PICTURES and self.holds(file)

    def named(self, name: str, runs: dict[str, FoundRun]) -> FoundRun:
        """The run of a name. Raises ConfigError."""
        if name not in runs:
            raise ConfigError(f"there is no run '{name[:200]}' in {self.place}.")
        return runs[name]


def row_of(name: str, run: FoundRun) -> dict[str, Any]:
    """A run in a line."""
    config, records = run.config, run.records
    newest = lambda key: next((r[key] for r in reversed(records) if r.get(key) is not None), None)
    final = run.result.get("return") or {}
    greedy = final.get("mean", newest(GREEDY))
    return plain(
        {
            "name": name,
            "algorithm": config["algorithm"],
            "env": config["env"],
            "seeds": config.get("num_seeds", 1),
            "seed": config.get("seed", 0),
            "state": run.state,
            "env_steps": run.env_steps,
            "steps": config.get("steps"),
            "return": newest(TRAINING) if greedy is None else greedy,
            "of": "training" if greedy is None else "greedy",
            "sps": newest("sps"),
            "skipped": newest("skipped_updates"),
            "restarts": newest("pool/rebuilds"),
            "age": age(run),
            "wall_s": newest("wall_s"),
        }
    )


def metrics_of(runs: Any) -> list[str]:
    """The names of all metrics of some runs that are numbers, greedy returns first."""
    names = {
        key: None
        for run in runs
        for record in run.records[-1:] + run.records[len(run.records) // 2 :][:1]
        for key, value in record.items()
        if isinstance(value, int | float) and key not in {*CLOCKS, *PHASES}
    }
    first = [GREEDY, TRAINING]
    return [*first, *sorted(name for name in names if name not in first)]


def curves(runs: Sequence[FoundRun], metric: str, x: str, by: str) -> list[dict[str, Any]]:
    """The curve of each group of each environment, as `parl plot` draws it, with its interval."""
    if by and runs:
        grouped(runs, by)  # raises where no run has the setting
    envs = dict.fromkeys(run.config["env"] for run in runs)
    found = []
    for env in envs:
        here = [run for run in runs if run.config["env"] == env]
        own = by if any(by in described(run) for run in here) else ""
        for label, members in grouped(here, own).items():
            if curve := curve_of(members, metric, x):
                found.append({"label": f"{env}, {label}" if len(envs) > 1 else label, **curve})
    return found


def curve_of(runs: Sequence[FoundRun], metric: str, x: str) -> dict[str, Any] | None:
    """One curve over all seeds of some runs; None where they share no point of it."""
    own = [(found, run) for run in runs if len((found := finite(run, metric))[0])]
    if not own:
        return None
    try:
        steps, values = aligned([found for found, _ in own])
    except ParlError:  # they have no steps in common yet
        return None
    at = steps if x == "env_steps" else clock([finite(run, x) for _, run in own], x, steps)
    middle, low, high = over_seeds(values)
    lines = {"x": at, "middle": middle, "low": low, "high": high}
    return plain(lines) | {"seeds": values.shape[1]}


def finite(run: FoundRun, key: str) -> tuple[np.ndarray, np.ndarray]:
    """A run's series; nothing where what is written there are no numbers."""
    try:
        return series(run.records, key)
    except (TypeError, ValueError):
        return np.zeros(0), np.zeros((0, 1))


def small_keys(run: FoundRun) -> list[str]:
    """The metrics that have a small curve."""
    return [key for key in metrics_of([run]) if not key.endswith(("/episodes", "_std"))]


def small(run: FoundRun, key: str) -> dict[str, Any] | None:
    """The mean over seeds of a metric at some of its points; None without any."""
    steps, values = finite(run, key)
    if not len(steps):
        return None
    step = math.ceil(len(steps) / SMALL_POINTS)
    mean = np.nanmean(values, 1)
    # from behind, so that the newest value is among them
    return plain({"x": steps[::-1][::step][::-1], "y": mean[::-1][::step][::-1]})


def text(value: Any) -> str:
    """A setting as it is shown."""
    return "-" if value is None else str(value)[:200]
