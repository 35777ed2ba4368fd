"""Runs a run again and says whether the same came of it, bit by bit."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from parl import api
from parl.core.errors import ConfigError
from parl.core.loading import OBJECT
from parl.core.settings import Setting, checked
from parl.report.metrics import records_of
from parl.report.plotting import read_json
from parl.runs.config import RUN_FIELDS, RunConfig, versions
from parl.runs.directory import RunDir
from parl.runs.hooks import Stop

# what a line of metrics tells of the clock and of rollout workers, not of learning
TIMES = ("_s", "_share", "sps", "lag", "load")
WORKERS = "pool/"


class Verdict(NamedTuple):
    """How a second run compares with the first."""

    equal: bool  # its parameters, bit by bit; or without a result, every line of metrics
    sha256: tuple[str, str]  # of the parameters, before and now; empty where not known
    parted: int | None  # environment steps of the first line of metrics that differs
    names: list[str]  # what differs in that line
    returns: tuple[Any, Any]  # of the results, before and now
    reasons: list[str]  # what is not as it was


def reproduce(
    path: str | Path,
    steps: int | None = None,
    out: str | Path | None = None,
    env: Any = None,
    algorithm: Any = None,
    quiet: bool = False,
) -> Verdict:
    """Trains a run's config anew, up to `steps` if given, and compares.

    The new run is written to `out`, or thrown away. `env` and `algorithm` are the user's own, where
    the run was started with objects. Raises ConfigError where a run cannot be run again.
    """
    steps = checked("steps", steps, int | None, Setting(low=1))
    run = RunDir(path)
    config, before = run.config(), read_json(run.path / "result.json")
    own_algorithm = config.algorithm.endswith(OBJECT)
    for what, is_own, given in (
        ("an environment", config.own_env, env),
        ("an algorithm", own_algorithm, algorithm),
    ):
        if is_own and given is None:
            raise ConfigError(f"{run.path} was started with {what} of your own: give it as well.")
    objects = {name: getattr(config, name) for name in sorted(RUN_FIELDS)}
    if lost := [n for n, x in objects.items() if isinstance(x, str) and x.endswith(OBJECT)]:
        raise ConfigError(
            f"{run.path} was started with an object of yours as {lost[0]}; only what has a name, "
            "module:attribute, can be run again."
        )
    if not records_of(run.path):
        raise ConfigError(f"{run.path} has no line of metrics yet: there is nothing to compare.")
    with tempfile.TemporaryDirectory(prefix="parl-reproduce-") as scratch:
        again = Path(scratch) / "run" if out is None else Path(out)
        train(config, again, env, algorithm, steps, quiet)
        return compared(run, config, before, again, steps)


def train(
    config: RunConfig, out: Path, env: Any, algorithm: Any, steps: int | None, quiet: bool
) -> None:
    """Trains the config of a run anew, ended after `steps`, with the schedules of the whole run."""
    fields = {name: getattr(config, name) for name in RUN_FIELDS}
    if steps is not None and steps < config.steps:
        ended = lambda line: Stop("enough to compare") if line["env_steps"] >= steps else None
        if config.on_record:
            raise ConfigError("this run has an on_record of its own: reproduce it without --steps.")
        fields["on_record"] = ended
    api.train(
        algorithm if algorithm is not None else config.algorithm,
        env if env is not None else config.env,
        out,
        quiet,
        curve=False,
        **fields,
        **config.settings,
    )


def compared(
    run: RunDir, config: RunConfig, before: dict[str, Any], again: Path, steps: int | None
) -> Verdict:
    """The verdict on a run and the one that was trained anew."""
    now = read_json(again / "result.json")
    whole = bool(before) and before.get("env_steps") == now.get("env_steps")
    parted, names = first_difference(records_of(run.path), records_of(again))
    hashes = (before.get("params_sha256", ""), now.get("params_sha256", "")) if whole else ("", "")
    equal = hashes[0] == hashes[1] if whole else parted is None
    returns = (before.get("return"), now.get("return")) if whole else (None, None)
    reasons = [] if equal else [*changes(run, config), *exactness(config)]
    return Verdict(equal, hashes, parted, names, returns, reasons)


def first_difference(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> tuple[int | None, list[str]]:
    """(environment steps of the first lines that differ, the names of what does); (None, []).

    Lines that only one of the runs has are not compared, nor what tells of the clock or of workers.
    """
    of_learning = lambda name: not name.endswith(TIMES) and not name.startswith(WORKERS)
    by_step = {line["env_steps"]: line for line in now}
    for line in before:
        other = by_step.get(line["env_steps"])
        if other is None:
            continue
        told = [name for name in line if of_learning(name) and name in other]
        if odd := [name for name in told if line[name] != other[name]]:
            return int(line["env_steps"]), odd
    return None, []


def changes(run: RunDir, config: RunConfig) -> list[str]:
    """Settings in config.json that are not those of the checkpoints, and versions that changed."""
    saved = run.saved()
    meta = run.meta(saved[-1]) if saved else {}
    trained = meta.get("config", {})
    here = config.learned()
    found = [
        f"config.json has {name} {here[name]}, the run was trained with {trained[name]}"
        for name in here
        if name in trained and not same(here[name], trained[name])
    ]
    packages = versions()
    return found + [
        f"{name} is {packages.get(name)}, it was {version}"
        for name, version in config.versions.items()
        if packages.get(name) != version
    ]


def same(one: Any, other: Any) -> bool:
    """Whether two settings are equal, as JSON has them."""
    listed = lambda x: list(x) if isinstance(x, tuple) else x
    return listed(one) == listed(other)


def exactness(config: RunConfig) -> list[str]:
    """Why a run of this kind need not be equal."""
    found = []
    if config.mode == "async":
        found.append("asynchronous runs depend on when rollouts arrive")
    if config.schedule_from:
        found.append(f"its schedule was started anew at step {config.schedule_from} by a resume")
    if config.max_hours is not None:
        found.append("max_hours ends runs by the clock")
    return found
