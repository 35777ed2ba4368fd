"""Training: from an algorithm and an environment to a finished run, and resuming one."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from parl.core.errors import ConfigError, nearest
from parl.core.memory import keep_freed_memory
from parl.core.store import uri_of
from parl.envs.factory import make_factory
from parl.models.encoder import has_images
from parl.recipes import algorithm_name
from parl.recipes.auto import AUTO, pick
from parl.report.announce import announced
from parl.report.progress import Progress
from parl.runs.build import Parts, resolve
from parl.runs.clock import Clock
from parl.runs.config import RUN_FIELDS, RunConfig, new_run_id, versions
from parl.runs.data import check_learns, with_data
from parl.runs.directory import RunDir
from parl.runs.executions import making
from parl.runs.fetch import working_copy, working_directory
from parl.runs.hooks import HOOKS, Hooks, lost, named, with_settings
from parl.runs.initial import start_from
from parl.runs.interruption import Signals, ending
from parl.runs.mirror import mirrored
from parl.runs.opponents import own_opponent
from parl.runs.preparation import prepare
from parl.runs.remarks import long_warmup, rounding
from parl.runs.schedules import explained, extended
from parl.runs.session import finished, go_on, resumed, say, started
from parl.runs.sides import check_team
from parl.runs.teaching import check_taught
from parl.runs.trainer import Trainer


class Run(NamedTuple):
    """A finished run."""

    path: Path
    result: dict[str, Any]  # the content of result.json


@ending("ended before training began; nothing is left of it.")
def train(
    algorithm: Any,
    env: Any = None,
    out: str | Path | None = None,
    quiet: bool = False,
    env_id: str = "",
    curve: bool = True,
    **settings: Any,
) -> Run:
    """Trains an algorithm on an environment and writes a run directory.

    `out` is that directory, or a URI such as s3://bucket/run: the run then writes into a directory
    under runs/, which is copied to the store while it trains. `algorithm` is a name such as 'sac',
    or the user's own: a Recipe's class, an Algorithm with its networks, a Learner around one, or
    the name of one of these, as in 'my_lab.sac:MySAC'. The algorithm 'auto' is the one that the
    environment asks for; config.json names it. `env` is an id such as 'HalfCheetah-v5' or
    'jax:CartPole-v1', a JaxEnv, a function that makes a Gymnasium environment, or the name of one
    of these, as in 'my_lab.maze:Maze'; `env_id` is what the user's own is to be called. `settings`
    are those of the run, the fields of `RunSettings`, and any of the recipe's; `parl train --help`
    explains them; where one is the place of a run, such as `teacher`, that may be a path or what
    `train` returned. `opponent` may be an object, too, such as an Agent, and so may `on_start`,
    `on_record`, `on_evaluation`, `on_checkpoint` and `on_end`: functions of one dict, see `Hooks`.
    `curve` is whether curve.png is drawn. With `data`, a data set, the algorithm learns from that:
    `env` only evaluates, or is left out, or is stepped for `online_steps` thereafter. Raises a
    ParlError with one sentence for whatever does not fit.
    """
    clock = Clock()
    hooks, names = named({name: settings.pop(name) for name in HOOKS if name in settings})
    given: dict[str, Any] = {k: settings.pop(k) for k in RUN_FIELDS & settings.keys()} | names
    given = {k: as_text(x) for k, x in given.items()}
    rival, given["opponent"] = own_opponent(given.get("opponent"))
    chosen, own = dict(settings), own_env(env, env_id)
    name = algorithm_name(algorithm)
    config = RunConfig(name, (env or "") if own is None else "", settings=settings, **given)
    with announced(quiet=quiet):
        prepare()
        config = with_data(config, env is not None)
        leave_cards(config)
        parts = resolve(config, own, algorithm, rival)
        check_learns(parts.config.algorithm, parts.recipe, config.data)
        check_taught(parts.learner, config)
        told = with_settings(hooks, config)
    spec = parts.factory.spec
    if name == AUTO and not quiet:
        print(pick(spec, parts.factory.jax is not None).line(spec))
    remark = check_team(name, parts.factory, config.opponent)
    if not quiet and remark:
        print(remark)
    uri, ours = uri_of(out), {"run_id": new_run_id(), "versions": versions()}
    config = dataclasses.replace(parts.config, store=uri, **ours)
    with (
        started(working_directory(uri) if uri else out, config, chosen) as run,
        mirrored(run.path, uri, config.run_id, is_new=True) as copying,
        conditions(config),
    ):
        tell(parts, quiet)
        parts, told = parts._replace(config=config), [*told, *copying]
        return drive(parts, run, quiet, clock, told, curve=curve)


@ending("ended before training went on; the run is as it was.")
def resume(
    path: str | Path,
    steps: int | None = None,
    env: Any = None,
    quiet: bool = False,
    address: str | None = None,
    schedule: str | None = None,
    algorithm: Any = None,
    checkpoint: str | int = "latest",
    opponent: Any = None,
    curve: bool = True,
    learners: int | None = None,
    **hooks: Any,
) -> Run:
    """Continues a run from its newest good checkpoint, or from another one.

    `path` is the run's directory or its URI in a store, from which what is missing here is copied
    to a directory under runs/ first.
    `checkpoint` is latest, best, or the environment steps of one: newer ones are then removed, and
    what was logged since. A run that is finished is not touched, and its result given back.
    `steps`, `address`, the Ray cluster, and `learners` take the place of the run's own if given;
    other learners sum in another order, so that the run does not go on bit for bit. With more
    steps the schedule of the learning rate is the one of a run of that length (`schedule`
    "stretch", the default), one of its own for the added steps ("restart"), or the old one
    ("keep"), at whose end the rate may be 0. `env`, `algorithm`, `opponent` and the `hooks` are
    needed where the run was started with objects of the user's own. Raises CheckpointError if no
    checkpoint is good.
    """
    if odd := sorted(hooks.keys() - set(HOOKS)):
        raise ConfigError(f"resume takes no '{odd[0]}'.{nearest(odd[0], HOOKS)}")
    clock, uri, (own, _) = Clock(), uri_of(path), named(hooks)
    run = RunDir(working_copy(uri) if uri else path)
    config = run.config()
    config = dataclasses.replace(config, store=uri or config.store)
    with (
        resumed(run, config.run_id),
        mirrored(run.path, config.store, config.run_id) as copying,
    ):
        end = config.steps if steps is None else dataclasses.replace(config, steps=steps).steps
        if checkpoint == "latest" and schedule is None and (done := run.result(end, config.run_id)):
            return Run(run.path, finished(run, done, quiet))
        with announced(quiet=quiet):
            prepare()
            found = run.pick(config.run_id, checkpoint)
            before, at = config, found.meta["env_steps"]
            config = extended(config, steps, schedule, at)
            if address is not None:
                config = dataclasses.replace(config, address=address)
            if learners is not None:
                config = dataclasses.replace(config, learners=learners)
            leave_cards(config)
            parts = resolve(config, env, algorithm, opponent)
            told = [*with_settings(own, config), *copying]
        for each in lost(own, config):
            say(f"{run.path} was started with {each} of your own, which is given no more.")
        if not quiet and (line := explained(before, parts.config, parts.recipe, at)):
            print(line)
        tell(parts, quiet)
        restore = partial(go_on, run=run, which=checkpoint, found=found)
        with conditions(config):
            return drive(parts, run, quiet, clock, told, restore, curve)


def as_text(value: Any) -> Any:
    """A path, or a finished run, as the text that config.json holds of it; all else unchanged."""
    place = value.path if isinstance(value, Run) else value
    return str(place) if isinstance(place, Path) else place


def leave_cards(config: RunConfig) -> None:
    """Keeps this process off the GPUs that several learners are to have."""
    if config.learners > 1 and config.learner_gpus:
        jax.config.update("jax_platforms", "cpu")


def own_env(env: Any, env_id: str) -> Any:
    """The user's own environment, named `env_id` if given; None for an id."""
    if not isinstance(env_id, str) or (env_id and isinstance(env, str)):
        raise ConfigError(f"env_id is a name for an environment of your own, not {env_id!r}.")
    if env is None or isinstance(env, str):
        return None
    return make_factory(env, env_id) if env_id else env


def tell(parts: Parts, quiet: bool) -> None:
    """Prints notes about a run; a warning that it will not learn is printed even if quiet."""
    if not quiet and (line := rounding(parts)):
        print(line)
    if line := long_warmup(parts):
        print(f"WARNING: {line}.", file=sys.stderr)


def drive(
    parts: Parts,
    run: RunDir,
    quiet: bool,
    clock: Clock,
    told: Sequence[Hooks],
    restore: Callable[[Trainer], None] | None = None,
    curve: bool = True,
) -> Run:
    """Runs to the end, from the start or a restored state, and draws the curve."""
    if has_images(parts.factory.spec.observation_space) or parts.config.replay_shards:
        keep_freed_memory()
    title = f"{parts.config.algorithm} on {parts.config.env}"
    with Progress(parts.config.steps, title, quiet=quiet) as progress:
        progress.phase("setting up")
        latest = partial(run.newest, parts.config.run_id)
        execution = making.get()(parts, progress.phase, run.path, progress.message, latest)
        try:
            trainer = Trainer(parts, execution, run, progress, clock, told)
            if restore is not None:
                restore(trainer)
            elif parts.config.init_from:
                progress.message(start_from(execution, parts.config))
            result = trainer.train()
        finally:
            run.iterations = execution.iteration
            with Signals("ended while the run was being closed; what was saved stays."):
                execution.close()
    if curve:
        from parl.report.plotting import plot_run  # only now: it loads matplotlib

        with Signals("ended while the curve was being drawn; the run is finished."):
            plot_run(run.path)
    return Run(run.path, result)


@contextlib.contextmanager
def conditions(config: RunConfig) -> Iterator[None]:
    """Applies eager mode and fault injection, if they are set."""
    with contextlib.ExitStack() as stack:
        if config.eager:
            stack.enter_context(jax.disable_jit())
        if config.chaos:
            from parl.remote.chaos import chaos, parse  # only now: it loads Ray

            stack.enter_context(chaos(**parse(config.chaos)))
        yield
