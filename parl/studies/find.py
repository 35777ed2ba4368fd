"""Runs on the disk: found, described and grouped by what they have in common.

K seeds of a run. Nothing here trains or loads a policy; only JSON is read.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ConfigError
from parl.core.locks import is_locked
from parl.report.metrics import records_of
from parl.report.plotting import read_json, series
from parl.runs.directory import LOCK
from parl.runs.fetch import run_path

GREEDY, TRAINING = "eval/return_mean", "return_mean"


class FoundRun(NamedTuple):
    """One run directory."""

    path: Path
    config: dict[str, Any]
    result: dict[str, Any]  # empty for a run that has not finished
    records: list[dict[str, Any]]

    @property
    def state(self) -> str:
        """running, finished, or stopped: it can be resumed."""
        if is_locked(self.path / LOCK):
            return "running"
        return "finished" if self.result else "stopped"

    @property
    def env_steps(self) -> int:
        """Environment steps of each seed so far."""
        last = self.records[-1]["env_steps"] if self.records else 0
        return int(self.result.get("env_steps", last))

    @property
    def num_bytes(self) -> int:
        """Size of all its files."""
        files = (Path(root, name) for root, _, names in os.walk(self.path) for name in names)
        return sum(file.lstat().st_size for file in files if file.exists())

    def scores(self, key: str = GREEDY, at: int | None = None) -> np.ndarray:
        """[K] the last value of each seed, or the last one up to `at` environment steps.

        Returns of greedy evaluation are those of result.json where the run has finished.
        """
        final = self.result.get("return")
        if at is None and key == GREEDY and isinstance(final, dict):
            return np.array(final["seeds"], float)
        records = [r for r in self.records if at is None or r["env_steps"] <= at]
        _, values = series(records, key)
        if not len(values):
            before = "" if at is None else f" up to step {at:,}"
            raise ConfigError(f"{self.path} has no '{key}'{before} to compare.")
        return values[-1]


def read_run(path: Path) -> FoundRun:
    """The run in a directory, finished or not. Raises ConfigError where there is none."""
    path = run_path(path)
    if (config := config_of(path)) is None:
        raise ConfigError(f"{path} is no run: it has no config.json of one.")
    return run_of(path, config)


def config_of(path: Path) -> dict[str, Any] | None:
    """The config of a run in a directory; None where there is none."""
    config = read_json(path / "config.json")
    return config if {"algorithm", "env"} <= config.keys() else None


def run_of(path: Path, config: dict[str, Any]) -> FoundRun:
    """The run of this config in a directory."""
    return FoundRun(path, config, read_json(path / "result.json"), records_of(path))


def find_runs(places: Iterable[str | Path]) -> list[FoundRun]:
    """All runs in and below some directories, by their paths. Raises ConfigError for none."""
    found: dict[Path, FoundRun] = {}
    for place in map(run_path, places):
        if not place.exists():
            raise ConfigError(f"there is no directory {place}.")
        own = (place / "config.json").exists()
        below = [read_run(place)] if own else list(runs_below(place))
        if not below:
            raise ConfigError(f"{place} holds no run: none of its directories has a config.json.")
        found |= {run.path.resolve(): run for run in below}
    return list(found.values())


def runs_below(place: Path) -> Iterator[FoundRun]:
    """The runs in the directories below a place; a run holds no other one."""
    return (run_of(path, config) for path, config in configs_below(place))


def configs_below(place: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(directory, config) of the runs in and below a place; a run holds no other one."""
    for root, names, files in os.walk(place):
        if "config.json" in files and (config := config_of(Path(root))) is not None:
            yield Path(root), config
            names.clear()
        names.sort()


# --- groups -------------------------------------------------------------------------------------

# what says nothing about how a run learned, and so tells no groups apart
ASIDE = {
    *(
        "run_id",
        "versions",
        "spec",
        "seed",
        "num_seeds",
        "address",
        "env",
        "own_env",
        "without_env",
    ),
    *("log", "log_info", "eval_every", "eval_episodes", "eval_max_steps", "absolute_episodes"),
    *("keep", "checkpoint_every", "checkpoint_replay", "max_hours", "record", "store"),
    *("profile", "profile_worker", "metrics_port"),
}


def described(run: FoundRun) -> dict[str, Any]:
    """Algorithm, environment and all settings of a run, flat, without its seeds."""
    config, aside = run.config, {"settings", *ASIDE}
    if config.get("schedule_steps") == config.get("steps"):
        aside.add("schedule_steps")  # follows from the length
    if config.get("opponent") != "pool":
        aside.add("admit_every")  # says nothing
    own = {name: value for name, value in config.items() if name not in aside}
    return {"env": run.config["env"], **own, **run.config.get("settings", {})}


def differing(runs: Sequence[FoundRun]) -> list[str]:
    """The names of what is not the same for all runs that have it, the environment aside.

    Runs of other versions and other algorithms lack some settings.
    """
    all_of_them = [described(run) for run in runs]
    names = dict.fromkeys(name for each in all_of_them for name in each)
    texts = {
        name: {json.dumps(each[name]) for each in all_of_them if name in each} for name in names
    }
    return [name for name in names if len(texts[name]) > 1 and name != "env"]


def grouped(runs: Sequence[FoundRun], by: str = "") -> dict[str, list[FoundRun]]:
    """Runs by everything but the seed and the environment, or by one setting: label -> runs.

    Raises ConfigError for a name that no run has.
    """
    by = by.removeprefix("setting:").replace("-", "_")
    if by and not any(by in described(run) for run in runs):
        raise ConfigError(f"no run has a setting '{by}' to group by.")
    names = [by] if by else differing(runs)
    if len({run.config["algorithm"] for run in runs}) > 1 and not by:
        # settings of different algorithms differ anyway: say only those that differ within one
        names = ["algorithm", *settings_within(runs)]
    groups: dict[str, list[FoundRun]] = {}
    for run in runs:
        groups.setdefault(label_of(run, names), []).append(run)
    return groups


def settings_within(runs: Sequence[FoundRun]) -> list[str]:
    """The settings that differ between runs of one algorithm on one environment."""
    alike: dict[tuple, list[FoundRun]] = {}
    for run in runs:
        alike.setdefault((run.config["algorithm"], run.config["env"]), []).append(run)
    return list(dict.fromkeys(name for each in alike.values() for name in differing(each)))


def label_of(run: FoundRun, names: Sequence[str]) -> str:
    """A group's name, such as 'ppo, learning_rate 0.001'."""
    values = described(run)
    shown = {name: "none" if value == "" else value for name, value in values.items()}
    told = [f"{name} {shown[name]}" for name in names if name != "algorithm" and name in shown]
    return ", ".join(
        [run.config["algorithm"], *told] if "algorithm" in names or not names else told
    )


def age(run: FoundRun) -> str:
    """How long ago the run last wrote its metrics, such as '3 h'."""
    file = run.path / "metrics.jsonl"
    if not file.exists():
        return "-"
    seconds = max(0.0, time.time() - file.stat().st_mtime)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
