"""Sweeps: one algorithm with many settings, each trial a run of its own, all through one program.

The trials run in this process. Their hyperparameters are data of the compiled programs, so that
only the first trial of each structure (widths, lengths) compiles. One after the other, each is bit
for bit the run that `parl.train` makes with its settings; together, they are rows of one program,
see studies/together.py.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from parl import api
from parl.core.errors import ConfigError
from parl.core.files import write_json
from parl.core.settings import Setting, checked
from parl.core.store import refuse_uri
from parl.recipes import algorithm_name
from parl.report.announce import announced
from parl.report.plotting import read_json
from parl.report.progress import short
from parl.runs.config import RUN_FIELDS
from parl.runs.directory import usable
from parl.runs.saver import Diverged
from parl.studies import population
from parl.studies.space import Choices, Range, Space, read_space, trials_of
from parl.studies.together import in_batches
from parl.studies.trial import Trial, trained

STUDY, DIVERGED = "study.json", "diverged.json"


class Study(NamedTuple):
    """A finished sweep; trials are in the order in which they ran."""

    path: Path
    space: Space
    trials: list[Trial]

    @property
    def ranked(self) -> list[Trial]:
        """The trials, the best first; those without a score last."""
        key = lambda trial: -np.inf if np.isnan(trial.score) else trial.score
        return sorted(self.trials, key=key, reverse=True)


def sweep(
    algorithm: Any,
    env: Any,
    over: Any,
    num_trials: int | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    sample_seed: int = 0,
    pbt: int = 0,
    together: int = 0,
    **settings: Any,
) -> Study:
    """Trains an algorithm with many settings; a directory that holds a part of it is completed.

    `over` is the space, as `read_space` takes it; `num_trials` is how many of its settings are
    tried, not given, every combination of its choices, and `sample_seed` draws them. `settings` are
    those of every trial, as for `parl.train`. Trials whose learning diverges are told and left.
    `address`, of a Ray cluster, has the trials run there side by side, unless `actors` use it.
    `together` trials at a time are rows of one program; 0: one after the other on a CPU, and on
    other devices all at once. With `pbt` the trials are a population, trained in that many parts:
    after each, the worst quarter goes on from the best, with settings near theirs (see
    studies/population.py).
    Writes study.json, trials/N/, sweep.csv and sweep.png. Raises a ParlError for whatever does not
    fit, before anything runs.
    """
    num_trials = checked("num_trials", num_trials, int | None, Setting(low=1, high=100_000))
    sample_seed = checked("sample_seed", sample_seed, int, Setting(low=0))
    pbt = checked("pbt", pbt, int, Setting(low=0, high=10_000))
    fixed = {name: value for name, value in settings.items() if name not in RUN_FIELDS}
    with announced(quiet=quiet):
        api.prepare()
        recipe = recipe_of(algorithm, env).override(fixed)
    together = at_once(together, settings)
    address = "local" if settings.get("actors") else settings.pop("address", "local")
    for name, given in {"pbt": pbt, "together": together > 1}.items():
        if given and address != "local":
            raise ConfigError(f"{name} trains its trials in one process: leave out --address.")
    space = read_space(over, recipe)
    if twice := sorted(space.keys() & settings.keys()):
        raise ConfigError(f"'{twice[0]}' is swept over and given as well: leave out one of them.")
    chosen = trials_of(space, num_trials, sample_seed)
    for each in chosen:
        recipe.override(each)  # all are checked before the first one runs
    name = algorithm_name(algorithm)
    place = directory(out, name, env)
    about = description(name, env, space, chosen, settings)
    claim(place, about | {"pbt": pbt} if pbt else about)
    say = print if not quiet else lambda line: None
    if pbt:
        trials = population.train(
            place, algorithm, env, space, chosen, pbt, settings, sample_seed, say, together
        )
    elif address != "local":
        trials = on_cluster(address, place, algorithm, env, chosen, settings, say)
    else:
        trials = here(place, algorithm, env, chosen, settings, say, together)
    study = Study(place, space, trials)
    from parl.studies.sweep_pictures import write  # only now: it loads matplotlib

    write(study)
    return study


def at_once(together: int, settings: Mapping[str, Any]) -> int:
    """How many trials are rows of one program; those that use a Ray cluster are none."""
    together = checked("together", together, int, Setting(low=0, high=100_000))
    if together or settings.get("actors") or settings.get("address"):
        return together or 1
    return 1 if jax.default_backend() == "cpu" else 100_000


def here(
    place: Path,
    algorithm: Any,
    env: Any,
    chosen: list[dict[str, Any]],
    settings: dict[str, Any],
    say: Any,
    together: int,
) -> list[Trial]:
    """Trains the trials in this process and says what came of each."""
    tasks = [
        partial(run_trial, path, algorithm, env, each, settings)
        for path, each in zip(places(place, len(chosen)), chosen, strict=True)
    ]
    trials: list[Trial] = []
    for done, seconds in in_batches(tasks, together):
        for trial in done:
            trials.append(trial)
            say(f"trial {len(trials)} of {len(chosen)}: {told(trial)} ({seconds:.1f} s)")
    return trials


def on_cluster(
    address: str,
    place: Path,
    algorithm: Any,
    env: Any,
    chosen: list[dict[str, Any]],
    settings: dict,
    say: Any,
) -> list[Trial]:
    """Trains trials as tasks of a Ray cluster, as many at once as it has CPUs.

    Each is a run of its own in one process, with the results that it has anywhere. The study's
    directory has to be one that all nodes share. A trial whose node is lost goes on elsewhere.
    """
    from parl.remote import connect  # only now: it loads Ray
    from parl.remote.tasks import spread

    connect(address)
    paths = places(place.resolve(), len(chosen))
    calls = [
        partial(run_trial, path, algorithm, env, each, settings)
        for path, each in zip(paths, chosen, strict=True)
    ]
    trials: dict[int, Trial] = {}
    for i, trial in spread(calls):
        trials[i] = trial._replace(path=place / "trials" / trial.path.name)
        say(f"trial {i + 1} of {len(chosen)}: {told(trial)}")
    return [trials[i] for i in range(len(chosen))]


def places(place: Path, count: int) -> list[Path]:
    """The directories of a study's trials."""
    return [place / "trials" / f"{i:0{len(str(count - 1))}}" for i in range(count)]


def recipe_of(algorithm: Any, env: Any) -> Any:
    """The recipe of an algorithm for an environment."""
    from parl.envs.factory import make_factory
    from parl.runs.build import recipe_for

    return recipe_for(algorithm, make_factory(env))[1]


def directory(out: str | Path | None, algorithm: str, env: Any) -> Path:
    """The study's directory: `out`, or a free one under studies/."""
    if out is not None:
        refuse_uri(out, "a study")
        return Path(out)
    label = "".join(c if c.isalnum() or c in "-." else "-" for c in f"{algorithm}-{env}")[:80]
    base = Path("studies") / label.strip("-")
    places = (base if n == 1 else base.with_name(f"{base.name}-{n}") for n in range(1, 100_000))
    return next(place for place in places if not place.exists())


def description(
    algorithm: str, env: Any, space: Space, chosen: list[dict[str, Any]], settings: Mapping
) -> dict[str, Any]:
    """What study.json holds, as JSON gives it back."""
    told = {name: str(x) if callable(x) else x for name, x in settings.items()}
    content = {
        "algorithm": algorithm,
        "env": env if isinstance(env, str) else str(getattr(env, "id", env)),
        "over": {name: each.as_json() for name, each in space.items()},
        "settings": told,
        "trials": chosen,
    }
    return json.loads(json.dumps(content, default=str))


def claim(place: Path, content: dict[str, Any]) -> None:
    """Writes study.json; raises ConfigError where another study is there."""
    with usable(place):
        place.mkdir(parents=True, exist_ok=True)
        there = (place / STUDY).exists()
        if not there and any(place.iterdir()):
            raise ConfigError(f"{place} holds other things: choose another --out.")
    if there and (found := read_json(place / STUDY)) != content:
        odd = next((k for k in content if found.get(k) != content[k]), STUDY)
        raise ConfigError(
            f"{place} holds a study with other {odd}: give the same command to complete it, or "
            "choose another --out."
        )
    write_json(place / STUDY, content)


def run_trial(
    path: Path,
    algorithm: Any,
    env: Any,
    chosen: dict[str, Any],
    settings: dict[str, Any],
    **hooks: Any,
) -> Trial:
    """Trains a trial, goes on with it, or reads its result where it has finished."""
    if error := read_json(path / DIVERGED).get("error"):
        return Trial(path, chosen, {}, error)
    try:
        return trained(path, algorithm, env, chosen, settings, **hooks)
    except Diverged as error:
        write_json(path / DIVERGED, {"error": str(error)})
        return Trial(path, chosen, {}, str(error))


def told(trial: Trial) -> str:
    """A trial in a line."""
    values = ", ".join(f"{name} {text(value)}" for name, value in trial.settings.items())
    if trial.error:
        return f"{values}: learning diverged"
    final = trial.result.get("return")
    if not final:
        return f"{values}: no episode ended"
    return f"{values}: return {short(final['mean'])} over {final['over']}"


def text(value: Any) -> str:
    """A setting's value for people: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def importance(study: Study) -> dict[str, float]:
    """The share of the scores' variance that each setting explains alone, in [0, 1].

    The adjusted coefficient of determination of the ranks of scores, by the values of a choice, or
    by up to five equal parts of a range; 0 where it explains no more than chance. Empty with fewer
    than eight trials that have a score.
    """
    trials = [trial for trial in study.trials if np.isfinite(trial.score)]
    if len(trials) < 8:
        return {}
    ranks = np.argsort(np.argsort([trial.score for trial in trials])).astype(float)
    return {
        name: explained_by(parts_of(each, [trial.settings[name] for trial in trials]), ranks)
        for name, each in study.space.items()
    }


def parts_of(each: Range | Choices, values: list[Any]) -> np.ndarray:
    """[trials] the part of the space that each value lies in."""
    if isinstance(each, Choices):
        return np.array([each.values.index(value) for value in values])
    count = min(5, len(values) // 4)
    return np.minimum([int(each.share(value) * count) for value in values], count - 1)


def explained_by(parts: np.ndarray, ranks: np.ndarray) -> float:
    """1 - (within / (n - k)) / (total / (n - 1)) for k parts of n ranks, not below 0."""
    total = float(((ranks - ranks.mean()) ** 2).sum())
    kinds, count = np.unique(parts), len(ranks)
    if not total or len(kinds) < 2 or count <= len(kinds):
        return 0.0
    within = sum(float(((ranks[parts == k] - ranks[parts == k].mean()) ** 2).sum()) for k in kinds)
    return max(0.0, 1 - (within / (count - len(kinds))) / (total / (count - 1)))
