"""Tuning: settings searched by Optuna, one run a trial, and the best judged on fresh seeds.

Several processes, also of several machines that share a file system, work on one study through its
journal. A maximum over trials is no result: the best ones are trained anew with seeds that no trial
has seen, and those returns are what is told.
"""

import contextlib
import json
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl import api
from parl.core.errors import ConfigError, MissingPackage
from parl.core.files import write_json, write_text
from parl.core.locks import Held, Lock, is_locked
from parl.core.settings import Setting, checked
from parl.recipes import algorithm_name
from parl.report.announce import announced
from parl.report.plotting import read_json
from parl.runs.config import RUN_FIELDS
from parl.runs.directory import LOCK
from parl.runs.hooks import Stop
from parl.studies.space import Range, Space, read_space
from parl.studies.sweep import STUDY, claim, description, directory, recipe_of, run_trial
from parl.studies.trial import Trial

JOURNAL, BEST = "journal.log", "best.yaml"
TELLING_S = 1.0  # seconds in which a process tells the study of a run that has ended
RUNGS = 3  # evaluations before the first of which no trial is pruned, and the factor of later ones


class Tuned(NamedTuple):
    """What a study found."""

    path: Path
    trials: list[Trial]  # finished ones, the best first
    pruned: int
    failed: int
    finals: list[Trial]  # the best ones with fresh seeds, the best first; empty while others work


class Plan(NamedTuple):
    """What a process that works on a study needs."""

    path: Path
    algorithm: Any
    env: Any
    space: Space
    num_trials: int
    settings: dict[str, Any]
    prune: bool
    finalists: int
    final_seeds: int


def tune(
    algorithm: Any,
    env: Any,
    over: Any,
    num_trials: int = 32,
    out: str | Path | None = None,
    quiet: bool = False,
    sample_seed: int = 0,
    prune: bool = True,
    finalists: int = 3,
    final_seeds: int = 5,
    **settings: Any,
) -> Tuned:
    """Searches settings for the highest return with tree-structured Parzen estimators.

    Bergstra et al. 2011. `over` is the space, as `parl.sweep` takes it. With `prune` a trial ends
    early where its evaluations are below most others' at the same step (successive halving, Li et
    al. 2020, arXiv:1810.05934). The best `finalists` are trained anew with `final_seeds` seeds that
    follow those of the trials. The same call, or `join`, completes a study that was broken off.
    Raises MissingPackage without Optuna, and a ParlError for whatever does not fit.
    """
    counts = {"num_trials": num_trials, "finalists": finalists, "final_seeds": final_seeds}
    for name, value in counts.items():
        checked(name, value, int, Setting(low=1, high=100_000))
    with announced(quiet=quiet):
        api.prepare()
        fixed = {name: value for name, value in settings.items() if name not in RUN_FIELDS}
        recipe = recipe_of(algorithm, env).override(fixed)
    space = read_space(over, recipe)
    if twice := sorted(space.keys() & settings.keys()):
        raise ConfigError(f"'{twice[0]}' is searched and given as well: leave out one of them.")
    if prune and settings.get("on_evaluation"):
        raise ConfigError("trials are pruned after evaluations: on_evaluation needs prune=False.")
    name = algorithm_name(algorithm)
    place = directory(out, name, env)
    about = description(name, env, space, [], settings)
    rest = {"prune": prune, "sample_seed": checked("sample_seed", sample_seed, int)}
    optuna()  # before anything is written
    claim(place, about | counts | rest)
    plan = Plan(
        place, algorithm, env, space, num_trials, dict(settings), prune, finalists, final_seeds
    )
    return work(plan, sample_seed, quiet)


def join(path: str | Path, quiet: bool = False) -> Tuned:
    """Works on a study that `tune` began, in another process or machine. Raises ConfigError."""
    path = Path(path)
    about = read_json(path / STUDY)
    if "num_trials" not in about:
        raise ConfigError(f"{path} holds no study to join: begin one with parl tune.")
    with announced(quiet=quiet):
        api.prepare()
        recipe = recipe_of(about["algorithm"], about["env"])
    space = read_space(about["over"], recipe)
    plan = Plan(
        path,
        about["algorithm"],
        about["env"],
        space,
        about["num_trials"],
        about["settings"],
        about["prune"],
        about["finalists"],
        about["final_seeds"],
    )
    return work(plan, None, quiet)


def optuna() -> Any:
    """The package Optuna, silent. Raises MissingPackage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackage("parl tune needs optuna: pip install 'parl-jax[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_study(plan: Plan, sample_seed: int | None) -> Any:
    """The study on the plan's journal; a process that joined has a sampler of its own."""
    package = optuna()
    from optuna.storages.journal import (  # pyright: ignore[reportMissingImports]
        JournalFileBackend,
    )

    storage = package.storages.JournalStorage(JournalFileBackend(str(plan.path / JOURNAL)))
    sampler = package.samplers.TPESampler(seed=sample_seed, constant_liar=True)
    pruner: Any = package.pruners.NopPruner()
    if plan.prune:
        pruner = package.pruners.SuccessiveHalvingPruner(min_resource=RUNGS, reduction_factor=RUNGS)
    return package.create_study(
        storage=storage,
        sampler=sampler,
        pruner=pruner,
        study_name="parl",
        direction="maximize",
        load_if_exists=True,
    )


def work(plan: Plan, sample_seed: int | None, quiet: bool) -> Tuned:
    """Runs trials until the study has enough, then the finals, unless another process does."""
    study = open_study(plan, sample_seed)
    say = print if not quiet else lambda line: None
    taken_over(plan, study, say)
    while True:
        while sum(trial.state.name != "FAIL" for trial in study.trials) < plan.num_trials:
            if len(study.trials) >= 2 * plan.num_trials:
                raise ConfigError(f"half of the trials in {plan.path} diverged: narrow the space.")
            trial = study.ask()
            finish(plan, study, trial.number, suggested(plan, trial), trial, say)
        if not taken_over(plan, study, say):  # processes may have been killed in the meantime
            break
    busy = [trial.number for trial in study.trials if trial.state.name == "RUNNING"]
    finals = []
    if not busy:
        finals = judged(plan, study, say)
    else:
        say(f"trials {', '.join(map(str, busy))} are at work elsewhere, where the best are judged")
    return told(plan, study, finals)


def taken_over(plan: Plan, study: Any, say: Any) -> list[int]:
    """Goes on with the trials that no process is training any more; returns them.

    A run that has just ended is not locked either: what is left stays so for a moment.
    """
    if not (first := abandoned(plan, study)):
        return []
    time.sleep(TELLING_S)
    with only_one(plan.path / "abandoned.lock") as mine:
        found = [number for number in abandoned(plan, study) if number in first] if mine else []
        for number in found:
            say(f"trial {number} was broken off: it goes on")
            finish(plan, study, number, chosen_of(plan, study.trials[number]), None, say)
    return found


def abandoned(plan: Plan, study: Any) -> list[int]:
    """Trials that began and that no process is training; a killed process leaves them."""
    return [
        trial.number
        for trial in study.trials
        if trial.state.name == "RUNNING" and plan.space.keys() <= trial.params.keys()
        if (place(plan, trial.number) / LOCK).exists()
        if not is_locked(place(plan, trial.number) / LOCK)
    ]


def place(plan: Plan, number: int) -> Path:
    """The directory of a trial."""
    return plan.path / "trials" / f"{number:04}"


def suggested(plan: Plan, trial: Any) -> dict[str, Any]:
    """The settings that Optuna picks for a trial."""
    for name, each in plan.space.items():
        if not isinstance(each, Range):
            trial.suggest_categorical(name, range(len(each.values)))
        elif each.whole:
            trial.suggest_int(name, int(each.low), int(each.high), log=each.log)
        else:
            trial.suggest_float(name, each.low, each.high, log=each.log)
    return chosen_of(plan, trial)


def chosen_of(plan: Plan, trial: Any) -> dict[str, Any]:
    """The settings of a trial from Optuna's parameters, which are indices of choices."""
    return {
        name: trial.params[name] if isinstance(each, Range) else each.values[trial.params[name]]
        for name, each in plan.space.items()
    }


def finish(
    plan: Plan, study: Any, number: int, chosen: dict[str, Any], trial: Any, say: Any
) -> None:
    """Trains a trial to its end, or until it is pruned, and tells the study."""
    states = optuna().trial.TrialState
    ended: list[str] = []
    hooks = {"on_evaluation": partial(watch, trial, [0], ended)} if trial and plan.prune else {}
    done = run_trial(place(plan, number), plan.algorithm, plan.env, chosen, plan.settings, **hooks)
    values = ", ".join(f"{name} {value}" for name, value in chosen.items())
    if ended:
        study.tell(number, state=states.PRUNED)
        say(f"trial {number}: {values}: pruned after {ended[0]} steps")
    elif np.isfinite(done.score):
        study.tell(number, done.score)
        say(f"trial {number}: {values}: return {done.score:.6g}")
    else:
        study.tell(number, state=states.FAIL)
        say(f"trial {number}: {values}: {done.error or 'no episode ended'}")


def watch(trial: Any, count: list[int], ended: list[str], evaluation: dict[str, Any]) -> Any:
    """Reports an evaluation to Optuna; Stop where the trial is to be pruned."""
    final = evaluation["return"]
    if final is None:
        return None
    count[0] += 1
    trial.report(final["mean"], count[0])
    if trial.should_prune():
        ended.append(f"{evaluation['env_steps']:,}")
        return Stop("pruned: below most other trials")
    return None


def judged(plan: Plan, study: Any, say: Any) -> list[Trial]:
    """Trains the best trials anew with fresh seeds; empty where another process does."""
    best = [trial for trial in ranked(study) if trial.value is not None][: plan.finalists]
    seed = int(plan.settings.get("seed", 0)) + int(plan.settings.get("num_seeds", 1))
    fresh = plan.settings | {"seed": seed, "num_seeds": plan.final_seeds}
    with only_one(plan.path / "finals.lock") as mine:
        if not mine:
            say("another process judges the best")
            return []
        finals = []
        for trial in best:
            path = plan.path / "finals" / f"{trial.number:04}"
            done = run_trial(path, plan.algorithm, plan.env, chosen_of(plan, trial), fresh)
            finals.append(done)
            say(f"trial {trial.number} with {plan.final_seeds} fresh seeds: {done.score:.6g}")
        finals.sort(key=lambda done: -np.inf if np.isnan(done.score) else done.score, reverse=True)
        write_best(plan, finals)
        return finals


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock of a file, until the end of the block."""
    try:
        lock = Lock(path)
    except Held:
        yield False
        return
    try:
        yield True
    finally:
        lock.close()


def write_best(plan: Plan, finals: list[Trial]) -> None:
    """Writes finals.json, and the best settings as a file for --config."""
    rows = [
        {"trial": done.path.name, "settings": done.settings, "return": done.result.get("return")}
        for done in finals
    ]
    write_json(plan.path / "finals.json", {"finals": json.loads(json.dumps(rows))})
    if finals:
        own = {"algorithm": algorithm_name(plan.algorithm)} if isinstance(plan.env, str) else {}
        given = {name: x for name, x in plan.settings.items() if name not in RUN_FIELDS}
        content = own | given | finals[0].settings
        lines = [f"{name}: {json.dumps(value)}" for name, value in content.items()]
        write_text(plan.path / BEST, "\n".join(lines) + "\n")


def ranked(study: Any) -> list[Any]:
    """Complete trials of Optuna, the best first."""
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    return sorted(done, key=lambda trial: trial.value, reverse=True)


def told(plan: Plan, study: Any, finals: list[Trial]) -> Tuned:
    """What the study has found so far."""
    result = lambda path: read_json(path / "result.json")
    trials = [
        Trial(place(plan, each.number), chosen_of(plan, each), result(place(plan, each.number)))
        for each in ranked(study)
    ]
    states = [trial.state.name for trial in study.trials]
    return Tuned(plan.path, trials, states.count("PRUNED"), states.count("FAIL"), finals)
