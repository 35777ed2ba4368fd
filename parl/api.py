"""The Python interface: train, resume, evaluate, load and export."""

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from parl.core.errors import ArtefactError, ConfigError, nearest
from parl.core.loading import called
from parl.core.memory import keep_freed_memory
from parl.core.settings import Setting, checked, path_of
from parl.envs.factory import make_factory
from parl.face import Agent as Agent
from parl.models.encoder import has_images
from parl.recipes import algorithm_name
from parl.recipes.auto import AUTO, pick
from parl.report.announce import announced
from parl.report.progress import Progress
from parl.runs.build import (
    Parts,
    load_state,
    make_evaluator,
    make_execution,
    opponent_player,
    resolve,
    run_seeds,
)
from parl.runs.clock import Clock
from parl.runs.config import RUN_FIELDS, RunConfig, new_run_id, versions
from parl.runs.data import check_learns, with_data
from parl.runs.directory import RunDir
from parl.runs.episodes import Rules
from parl.runs.evaluation import Evaluation
from parl.runs.hooks import HOOKS, Hooks, lost, named, with_settings
from parl.runs.interruption import Signals, ending
from parl.runs.preparation import prepare as prepare
from parl.runs.remarks import long_warmup, rounding
from parl.runs.schedules import explained, extended, horizon
from parl.runs.session import finished, go_on, resumed, say, started
from parl.runs.sides import check_team
from parl.runs.teaching import check_taught
from parl.runs.trainer import Trainer

if TYPE_CHECKING:
    from parl.deploy.artefact import Artefact
    from parl.deploy.submit.submission import Submission
    from parl.runs.record import Recorded


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

    `algorithm` is a name such as 'sac', or the user's own: a Recipe's class, an Algorithm with its
    networks, a Learner around one, or the name of one of these, as in 'my_lab.sac:MySAC'. The
    algorithm 'auto' is the one that the environment asks for; config.json names it. `env` is
    an id such as 'HalfCheetah-v5' or 'jax:CartPole-v1', a JaxEnv, a function that makes a Gymnasium
    environment, or the name of one of these, as in 'my_lab.maze:Maze'; `env_id` is what the user's
    own is to be called. `settings` are those of the run, the fields of `RunSettings`, and any of
    the recipe's; `parl train --help` explains them. `opponent` may be an object, too, such as an
    Agent, and so may `on_start`, `on_record`, `on_evaluation`, `on_checkpoint` and `on_end`:
    functions of one dict, see `Hooks`. `curve` is whether curve.png is drawn. With `data`, a data
    set, the algorithm learns from that: `env` only evaluates, or is left out, or is stepped for
    `online_steps` thereafter. Raises a ParlError with one sentence for whatever does not fit.
    """
    clock = Clock()
    hooks, names = named({name: settings.pop(name) for name in HOOKS if name in settings})
    given: dict[str, Any] = {k: settings.pop(k) for k in RUN_FIELDS & settings.keys()} | names
    rival, given["opponent"] = own_opponent(given.get("opponent"))
    chosen, own = dict(settings), own_env(env, env_id)
    name = algorithm_name(algorithm)
    config = RunConfig(name, (env or "") if own is None else "", settings=settings, **given)
    with announced(quiet=quiet):
        prepare()
        config = with_data(config, env is not None)
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
    config = dataclasses.replace(parts.config, run_id=new_run_id(), versions=versions())
    with started(out, config, chosen) as run, conditions(config):
        tell(parts, quiet)
        return drive(parts._replace(config=config), run, quiet, clock, told, curve=curve)


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
    **hooks: Any,
) -> Run:
    """Continues a run from its newest good checkpoint, or from another one.

    `checkpoint` is latest, best, or the environment steps of one: newer ones are then removed, and
    what was logged since. A run that is finished is not touched, and its result given back.
    `steps` and `address`, the Ray cluster, take the place of the run's own if given. With more
    steps the schedule of the learning rate is the one of a run of that length (`schedule`
    "stretch", the default), one of its own for the added steps ("restart"), or the old one
    ("keep"), at whose end the rate may be 0. `env`, `algorithm`, `opponent` and the `hooks` are
    needed where the run was started with objects of the user's own. Raises CheckpointError if no
    checkpoint is good.
    """
    if odd := sorted(hooks.keys() - set(HOOKS)):
        raise ConfigError(f"resume takes no '{odd[0]}'.{nearest(odd[0], HOOKS)}")
    clock, run, (own, _) = Clock(), RunDir(path), named(hooks)
    config = run.config()
    with resumed(run, config.run_id):
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
            parts = resolve(config, env, algorithm, opponent)
            told = with_settings(own, config)
        for each in lost(own, config):
            say(f"{run.path} was started with {each} of your own, which is given no more.")
        if not quiet and (line := explained(before, parts.config, parts.recipe, at)):
            print(line)
        tell(parts, quiet)
        restore = partial(go_on, run=run, which=checkpoint, found=found)
        with conditions(config):
            return drive(parts, run, quiet, clock, told, restore, curve)


def own_env(env: Any, env_id: str) -> Any:
    """The user's own environment, named `env_id` if given; None for an id."""
    if not isinstance(env_id, str) or (env_id and isinstance(env, str)):
        raise ConfigError(f"env_id is a name for an environment of your own, not {env_id!r}.")
    if env is None or isinstance(env, str):
        return None
    return make_factory(env, env_id) if env_id else env


def own_opponent(opponent: Any) -> tuple[Any, str]:
    """(the user's opponent object or None, its name)."""
    if opponent is None or isinstance(opponent, str | Path):
        return None, str(opponent or "")
    return opponent, called(opponent)


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
    if has_images(parts.factory.spec.observation_space):
        keep_freed_memory()
    title = f"{parts.config.algorithm} on {parts.config.env}"
    with Progress(parts.config.steps, title, quiet=quiet) as progress:
        progress.phase("setting up")
        execution = make_execution(parts, progress.phase, run.path, progress.message)
        try:
            trainer = Trainer(parts, execution, run, progress, clock, told)
            if restore is not None:
                restore(trainer)
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


def evaluate(
    path: str | Path,
    episodes: int = 10,
    seed: int = 0,
    env: Any = None,
    opponent: Any = None,
    sample: bool = False,
    max_steps: int | None = None,
    algorithm: Any = None,
    checkpoint: str | int = "latest",
    log_info: str | None = None,
) -> Evaluation:
    """Episodes of a run's policy: returns [episodes], or [K, episodes] for K seeds.

    The policy is that of the checkpoint called latest, best, or by its environment steps.
    `env` may be another environment of the same spaces than the run's own, such as PettingZoo's
    version of one of ours. `opponent` is random, another run or one of the user's own, in place of
    the run's. Actions are the likeliest, or drawn with `sample`. An episode is cut after
    `max_steps`; not given, that is the environment's time limit, or 10,000 steps where it has none.
    `log_info` names numbers of the environment's info in place of the run's. `algorithm` is needed
    where the run was started with an object of the user's own.
    """
    episodes = checked("episodes", episodes, int, Setting(low=1))
    seed = checked("seed", seed, int, Setting(low=0))
    max_steps = checked("max_steps", max_steps, int | None, Setting(low=1))
    sample = checked("sample", sample, bool)
    prepare()
    parts, state = load_state(RunDir(path), env, algorithm, checkpoint)
    rival, name = own_opponent(opponent)
    if opponent is not None:
        parts = parts._replace(config=dataclasses.replace(parts.config, opponent=name))
    own, seeds = parts.learner.algorithm, parts.config.num_seeds
    if log_info is not None:
        parts = parts._replace(config=dataclasses.replace(parts.config, log_info=log_info))
    rules = Rules(max_steps, parts.config.info_names, sample)
    parts = parts._replace(rival=opponent_player(parts.config, parts.factory.spec, env, rival))
    evaluator = make_evaluator(parts, own, episodes, rules)
    take = run_seeds(parts.config).take
    games = [evaluator(own.policy(take(state.algorithm_state, k)), seed + k) for k in range(seeds)]
    return evaluator.summary(games)


def load(
    path: str | Path,
    seed_index: int = 0,
    env: Any = None,
    algorithm: Any = None,
    checkpoint: str | int = "latest",
) -> Agent:
    """The agent of a run, of one of its checkpoints, or of a directory that `Agent.save` wrote.

    `seed_index` picks one of the seeds of a run with several, `checkpoint` is as in `evaluate`. The
    environment is not made: what it looks like is stored; `env` is another one of the same spaces,
    or that of a run of an older version. `algorithm` is needed where the run was started with an
    object of the user's own.
    """
    seed_index = checked("seed_index", seed_index, int)
    prepare()
    place = path_of(path).absolute()
    if place.parent.name == "checkpoints" and (place.parents[1] / "config.json").exists():
        name = int(place.name) if place.name.isdecimal() else place.name
        return load(place.parents[1], seed_index, env, algorithm, name)
    if not (place / "config.json").exists():
        if seed_index:
            raise ConfigError(f"{path} is no run: a saved agent has no seed_index {seed_index}.")
        return Agent.restore(path, algorithm, env=env)
    parts, state = load_state(RunDir(path), env, algorithm, checkpoint, plays=False)
    count = parts.config.num_seeds
    if not 0 <= seed_index < count:
        raise ConfigError(
            f"{path} has {count} seed{'s' * (count > 1)}, so seed_index must be from 0 to "
            f"{count - 1}, not {seed_index}."
        )
    train = run_seeds(parts.config).take(state.algorithm_state, seed_index)
    agent = Agent.around(
        parts.learner, kept_config(parts), parts.factory.spec, parts.config.seed + seed_index
    )
    return agent.with_algorithm_state(train)


def export(
    run_or_agent: Any,
    out: str | Path | None = None,
    to: Any = ("numpy",),
    checkpoint: str | int = "latest",
    seed_index: int = 0,
    agent: str | None = None,
    sample: bool = False,
    weights: str = "float32",
    episodes: int = 10,
    env: Any = None,
    algorithm: Any = None,
) -> "Artefact":
    """Writes the policy of a run, or of an Agent, as files that act without PARL and JAX.

    `to` are forms: numpy (always), onnx, stablehlo, tflite, c, js, web, or all. `out` is the
    directory, as it stands policy/ in the run's own. `agent` exports one of several agents alone,
    `sample` also the drawing of actions. `weights` float16, int8 or int4 take less room and act a
    little otherwise. Every form is compared with JAX on observations of real episodes and
    adversarial ones, and on the returns of `episodes`; what differs is in `failures`. `checkpoint`,
    `seed_index`, `env` and `algorithm` are as in `load`. Raises a ParlError with one sentence for
    whatever does not fit.
    """
    from parl.deploy import artefact, origin  # only now: most do not export

    prepare()
    if isinstance(run_or_agent, Agent):
        actor, told = run_or_agent, origin.of_agent(run_or_agent)
        place = Path("policy")
        played = env if env is not None else actor.config and actor.config["env"]
    else:
        place = path_of(run_or_agent)
        actor = load(place, seed_index, env, algorithm, checkpoint)
        is_run = (place / "config.json").exists()
        told = origin.of_run(place, checkpoint, seed_index) if is_run else origin.of_agent(actor)
        played = env if env is not None else actor.config and actor.config["env"]
        place = place / "policy" if is_run else Path("policy")
    source = artefact.Source(
        actor.algorithm, actor.weights, actor.spec, origin.environment(played), told
    )
    forms = (to,) if isinstance(to, str) else tuple(to)
    settings = artefact.Settings(forms, agent, sample, weights, episodes)
    return artefact.export(source, place if out is None else out, settings)


def record(
    run: str | Path,
    out: str | Path,
    episodes: int | None = None,
    steps: int | None = None,
    sample: bool = False,
    seed: int = 0,
    checkpoint: str | int = "latest",
    seed_index: int = 0,
    env: Any = None,
    algorithm: Any = None,
    expert: float | None = None,
) -> "Recorded":
    """Plays a run's policy and writes what it does as a data set into `out`, in Minari's layout.

    Either so many whole `episodes`, or exactly so many `steps`, of which the last episode is then
    cut. Actions are the likeliest, or drawn with `sample`. `expert` is the return that counts as
    100 in normalised scores. A recording that was broken off is continued. `checkpoint`,
    `seed_index`, `env` and `algorithm` are as in `load`. Raises a ParlError with one sentence for
    whatever does not fit.
    """
    from parl.runs import record as recording  # only now: most record nothing

    episodes = checked("episodes", episodes, int | None, Setting(low=1))
    steps = checked("steps", steps, int | None, Setting(low=1))
    seed = checked("seed", seed, int, Setting(low=0))
    seed_index = checked("seed_index", seed_index, int, Setting(low=0))
    prepare()
    amount = recording.Amount(episodes, steps)
    source = recording.Source(path_of(run), checkpoint, seed_index, env, algorithm)
    return recording.record(source, path_of(out), amount, sample, seed, expert)


# of the recipe of dagger: long rounds with many updates after each, and a rate that falls to 0
DISTILLING: dict[str, Any] = {
    "num_envs": 8,
    "updates": 1000,
    "batch_size": 512,
    "learning_rate": 2e-3,
    "anneal": True,
    "normalize_obs": True,
    "exploration": 0.1,
}


def distill(
    run: str | Path,
    hidden: Sequence[int] = (32, 32),
    rounds: int = 12,
    steps: int = 24_000,
    out: str | Path | None = None,
    checkpoint: str | int = "latest",
    episodes: int = 10,
    seed: int = 0,
    quiet: bool = False,
) -> Run:
    """Trains a smaller network to act as a run's policy does, which is a run of its own.

    That is `train("dagger", ..., teacher=run)`, of `rounds` with `steps` environment steps in all:
    the teacher acts in the first. Both policies then play `episodes`, with weights as they are and
    in int8: smaller.json in the new run holds sizes, durations and returns, see
    `parl.deploy.smaller.Row`.
    """
    from parl.deploy import origin, smaller  # only now: most do not distill
    from parl.deploy.artefact import Source

    prepare()
    config = RunDir(run).config()
    rounds = checked("rounds", rounds, int, Setting(low=1))
    steps = checked("steps", steps, int, Setting(low=1))
    length = max(round(steps / rounds / DISTILLING["num_envs"]), 1)
    a_round = length * DISTILLING["num_envs"]
    settings = DISTILLING | {"hidden": tuple(hidden), "length": length, "teacher_steps": a_round}
    done = train(
        "dagger",
        config.env,
        out,
        quiet,
        steps=rounds * a_round,
        seed=seed,
        teacher=str(path_of(run)),
        teacher_checkpoint=str(checkpoint),
        **settings,
    )

    def source(place: str | Path, which: str | int) -> Source:
        actor = load(place, checkpoint=which)
        return Source(
            actor.algorithm, actor.weights, actor.spec, origin.environment(config.env), {}
        )

    places = {"teacher": source(run, checkpoint), "student": source(done.path, "latest")}
    rows = [
        smaller.measured(f"{who} {form}", found, form, episodes, seed + 1)
        for who, found in places.items()
        for form in ("float32", "int8")
    ]
    smaller.write(done.path, rows, {"teacher": str(path_of(run)), "checkpoint": str(checkpoint)})
    return done


def submit(
    run_or_policy: str | Path,
    competition: str,
    out: str | Path | None = None,
    adapter: str | Path | None = None,
    python: str | Path | None = None,
    games: int = 20,
    recorded: str | Path | None = None,
    timeout: float = 600.0,
    **exporting: Any,
) -> "Submission":
    """Writes what a competition takes of an exported policy, or of a run, and tests it.

    `competition` is plain, kaggle:GAME, lux-s3, l2rpn, myochallenge or pokeagent; `adapter` is the
    user's module that maps its observations to the policy's and actions to its moves. The package
    runs in a sandbox of the interpreter `python`, in the real environment for `games` where that is
    installed there, else on observations that are `recorded` or the artefact's own. What is wrong
    is in `failures`, each with its name in front. `exporting` are settings of `export`. Nothing is
    uploaded.
    """
    from parl.deploy.contract import CONTRACT  # only now: most do not submit
    from parl.deploy.submit import submission

    place = path_of(run_or_policy)
    optional = lambda path: None if path is None else path_of(path)
    settings = submission.Settings(
        optional(adapter), optional(python), optional(recorded), games, timeout
    )
    target = place / "submission" if out is None else path_of(out)
    if (place / CONTRACT).is_file():
        if odd := sorted(
            name for name, x in exporting.items() if x not in DEFAULTS.get(name, (None,))
        ):
            raise ConfigError(f"{place} is exported already: {odd[0]} is for a run.")
        return submission.submit(place, competition, target, settings)
    with tempfile.TemporaryDirectory(prefix="parl-submit-") as folder:
        made = export(place, Path(folder) / "policy", episodes=0, **exporting)
        if made.failures:
            raise ArtefactError(f"{place} cannot be submitted: {made.failures[0]}")
        return submission.submit(made.path, competition, target, settings)


DEFAULTS = {"weights": ("float32",), "checkpoint": ("latest",), "agent": (None,)}


def kept_config(parts: Parts) -> dict[str, Any]:
    """The description of a run that an agent keeps, from which it can be rebuilt."""
    return {
        "algorithm": parts.config.algorithm,
        "env": parts.config.env,
        "settings": parts.recipe.settings() | parts.layout.settings(parts.recipe),
        "steps": horizon(parts.config, parts.recipe),
    }


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
