"""The command line: parl train | resume | eval | crossplay | list | cluster.

Bad input is one sentence on stderr and exit code 2; Ctrl-C and SIGTERM save first and exit 130/143.
"""

import contextlib
import dataclasses
import importlib.util
import io
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml

from parl.core.errors import ConfigError, ParlError, nearest

USAGE = """usage: parl COMMAND ...

  parl train ALGO --env ID [flags]   train and write a run directory; ALGO auto picks one
  parl resume DIR [--steps N]        continue a run where its last checkpoint is
  parl eval DIR [--episodes N]       greedy returns of a run's policy
  parl crossplay RUN RUN ...         the policies of runs against each other
  parl list                          algorithms and environments
  parl cluster start|join|status|stop   a Ray cluster of one or more machines

'parl train ALGO --env ID --help' lists every setting with its default for that environment."""


@dataclasses.dataclass
class TrainFlags:
    """Settings of the run; the recipe's follow."""

    env: str = ""
    """Environment: HalfCheetah-v5 (Gymnasium), jax:CartPole-v1 (built in), ale:Pong-v5, ..."""
    steps: int = 100_000
    """Environment steps of each seed."""
    seed: int = 0
    """The first seed; --num-seeds K runs seed, ..., seed + K - 1."""
    num_seeds: int = 1
    """Seeds trained together as one program."""
    execution: str = "auto"
    """auto, fused (JAX environments), host, or ray."""
    actors: int = 0
    """Ray rollout actors; 0 for none."""
    mode: str = "auto"
    """sync: all act with the newest policy, the same numbers every time; async: nobody waits for
    anybody. auto is async for impala and appo, else sync."""
    max_policy_lag: int | None = None
    """Drop asynchronous rollouts of policies that are more versions old than this."""
    address: str = "local"
    """Ray cluster: local (one of its own), auto (the one of this machine), or HOST:PORT."""
    chaos: str = ""
    """Faults to inject, per rollout: kill=0.01,hang=0.001,raise=0.01,slow=0.01,nan=0.01,seed=3."""
    out: Path | None = None
    """Run directory; runs/... if not given."""
    eval_every: int = 0
    """Environment steps between greedy evaluations; 0 for a tenth of the run."""
    eval_episodes: int = 20
    """Episodes of one evaluation."""
    absolute_episodes: int | None = None
    """Episodes of the best policy at the end; ten evaluations' with several agents, else 0."""
    checkpoint_every: int = 0
    """Environment steps between checkpoints; 0 for at every evaluation."""
    keep: int = 3
    """Latest checkpoints to keep, beside the best."""
    opponent: str = ""
    """Who plays the other sides of a game: random, self, pool (of the run's own past), or the
    directory of another run on the same environment."""
    pool_size: int = 16
    """Policies in the opponent pool."""
    admit_every: int = 0
    """Environment steps between admissions to the pool; 0 for a fiftieth of the run."""
    config: Path | None = None
    """YAML file with any of these settings; flags win over it."""
    eager: bool = False
    """Run without compilation, for debugging."""
    quiet: bool = False
    """No progress."""


@dataclasses.dataclass
class ResumeFlags:
    """Continue a run."""

    dir: tyro.conf.Positional[Path]
    steps: int | None = None
    """Train to this many environment steps instead of the run's own."""
    address: str | None = None
    """Ray cluster to go on with instead of the run's own."""
    quiet: bool = False
    """No progress."""


@dataclasses.dataclass
class EvalFlags:
    """Greedy returns of a run's newest policy."""

    dir: tyro.conf.Positional[Path]
    episodes: int = 10
    """Episodes to play."""
    seed: int = 0
    """Seed of the environments."""
    env: str | None = None
    """Another environment of the same spaces to play in."""
    opponent: str | None = None
    """Who plays the other sides, random or a run, in place of the run's own opponent."""


@dataclasses.dataclass
class CrossplayFlags:
    """Play the policies of runs against each other."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    episodes: int = 100
    """Episodes of each pair."""
    seed: int = 0
    """Seed of the environments."""
    sample: bool = False
    """Policies sample their actions; else they take the likeliest, and a game without chance is
    always the same."""
    out: Path | None = None
    """Directory for crossplay.json and crossplay.png."""


@dataclasses.dataclass
class ClusterStartFlags:
    """Start a Ray cluster with this machine as its first node."""

    port: int = 6379
    """Port that other nodes and programs call."""
    host: str = "127.0.0.1"
    """Address of this machine to listen at; for any but loopback, set RAY_AUTH_MODE=token."""
    num_cpus: int | None = None
    """CPUs to offer, one for each rollout worker; all of the machine's if not given."""


@dataclasses.dataclass
class ClusterJoinFlags:
    """Make this machine a node of the Ray cluster at HOST:PORT."""

    address: tyro.conf.Positional[str]
    num_cpus: int | None = None
    """CPUs to offer, one for each rollout worker; all of the machine's if not given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return dispatch(arguments)
    except ParlError as error:
        print(f"parl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("parl: interrupted before anything was to be saved.", file=sys.stderr)
        return 130


def dispatch(arguments: list[str]) -> int:
    """Runs the command named first."""
    commands = {
        "train": train,
        "resume": resume,
        "eval": evaluate,
        "crossplay": crossplay,
        "list": show_list,
        "cluster": cluster,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in commands:
        known = ", ".join(commands)
        raise ConfigError(f"unknown command '{name}'.{nearest(name, commands)} Known: {known}.")
    return commands[name](rest)


def train(arguments: list[str]) -> int:
    """parl train ALGO --env ID ..."""
    if not arguments or arguments[0].startswith("-"):
        if arguments[:1] in (["-h"], ["--help"]):
            print(USAGE)
            return 0
        raise ConfigError("train needs an algorithm first: parl train sac --env HalfCheetah-v5.")
    algorithm, *rest = arguments
    given = read_yaml(flag_value(rest, "--config"))
    env = flag_value(rest, "--env") or given.get("env")
    flags, settings = train_flags(algorithm, env, given, rest)

    from parl import api  # only now: bad flags are told before jax is loaded

    run_fields = {name: getattr(flags, name) for name in api.RUN_FIELDS}
    run = api.train(algorithm, flags.env, flags.out, flags.quiet, **run_fields, **settings)
    report(run.result, run.path)
    return 0


def train_flags(
    algorithm: str, env: str | None, given: dict[str, Any], arguments: list[str]
) -> tuple[TrainFlags, dict[str, Any]]:
    """The parsed flags and the recipe's settings that differ from the recipe for this env."""
    from parl.build import algorithm_for
    from parl.envs.factory import make_factory
    from parl.recipes import make_recipe, recipe_class
    from parl.recipes.auto import AUTO

    picks = algorithm == AUTO
    recipe = None if picks else recipe_class(algorithm)
    if env:
        factory = make_factory(env)
        recipe = make_recipe(algorithm_for(algorithm, factory), factory.spec)
    elif recipe is None or {"-h", "--help"}.isdisjoint(arguments):
        raise ConfigError(
            f"train{' auto' * picks} needs an environment: --env HalfCheetah-v5, "
            "--env jax:CartPole-v1."
        )
    else:
        recipe = recipe()  # pyright: ignore[reportCallIssue]
    defaults = recipe.settings()
    base = {field.name: field for field in dataclasses.fields(TrainFlags)}
    if odd := given.keys() - base.keys() - defaults.keys():
        raise unknown("setting", sorted(odd)[0], [*base, *defaults])
    fields = [
        (name, Annotated[kind, tyro.conf.FlagConversionOff, flag_of(name)], defaults[name])
        for name, kind in recipe.types().items()
    ]
    shape = dataclasses.make_dataclass(
        "TrainFlags",
        [(name, kind, dataclasses.field(default=value)) for name, kind, value in fields],
        bases=(TrainFlags,),
    )
    recipe.override({name: value for name, value in given.items() if name in defaults})
    flags = parse(shape, arguments, f"parl train {algorithm}", shape(**as_fields(given)))
    chosen = {name: getattr(flags, name) for name in defaults}
    return flags, {name: value for name, value in chosen.items() if value != defaults[name]}


def flag_of(name: str) -> Any:
    """How a setting's flag is called: `lambda_` only avoids a word of Python's."""
    return tyro.conf.arg(name=name.rstrip("_").replace("_", "-"))


def as_fields(given: dict[str, Any]) -> dict[str, Any]:
    """YAML's lists as tuples and its paths as paths."""
    values = {name: tuple(x) if isinstance(x, list) else x for name, x in given.items()}
    return values | {"out": Path(str(values["out"]))} if values.get("out") else values


def parse(shape: type, arguments: list[str], prog: str, default: Any = None) -> Any:
    """Flags into a dataclass. Raises ConfigError for an unknown flag or an unusable value."""
    options = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            flags, rest = tyro.cli(
                shape, prog=prog, args=arguments, return_unknown_args=True, **options
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"{first_sentence(said.getvalue())}; see {prog} --help.") from stop
    if rest:
        names = [f"--{f.name.rstrip('_').replace('_', '-')}" for f in dataclasses.fields(shape)]
        raise unknown("flag", rest[0].partition("=")[0], names)
    return flags


def first_sentence(box: str) -> str:
    """What an error box of tyro says between its title and the next rule."""
    lines = [line.strip(" │|") for line in box.splitlines()[1:]]
    is_rule = lambda line: set(line) <= set("─-╰╯")
    body = list(itertools.dropwhile(is_rule, lines))
    return " ".join(itertools.takewhile(lambda line: not is_rule(line), body)).rstrip(".")


def unknown(what: str, name: str, known: list[str]) -> ConfigError:
    """The error for a flag or setting that does not exist."""
    return ConfigError(f"unknown {what} '{name}'.{nearest(name, known)} Known: {', '.join(known)}.")


def flag_value(arguments: list[str], flag: str) -> str | None:
    """The value of a flag before the others can be parsed."""
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(flag + "="):
            return argument.partition("=")[2]
    return None


def read_yaml(path: str | None) -> dict[str, Any]:
    """The settings of a YAML file, by their names with underscores."""
    if path is None:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold settings as 'name: value' lines.")
    return {str(name).replace("-", "_"): value for name, value in content.items()}


def resume(arguments: list[str]) -> int:
    """parl resume DIR [--steps N]."""
    flags = parse(ResumeFlags, arguments, "parl resume")
    from parl import api

    run = api.resume(flags.dir, flags.steps, quiet=flags.quiet, address=flags.address)
    report(run.result, run.path)
    return 0


def evaluate(arguments: list[str]) -> int:
    """parl eval DIR [--episodes N] [--seed S]."""
    flags = parse(EvalFlags, arguments, "parl eval")
    if flags.episodes < 1:
        raise ConfigError(f"--episodes must be at least 1, not {flags.episodes}.")
    from parl import api

    evaluation = api.evaluate(flags.dir, flags.episodes, flags.seed, flags.env, flags.opponent)
    played = evaluation.returns.shape[-1]
    print(f"return {shown(evaluation.mean)} ± {shown(evaluation.std)} over {played} episodes")
    summary = evaluation.metrics() | {"episodes": played}
    print(json.dumps(summary | {"returns": evaluation.returns.tolist()}))
    return 0


def crossplay(arguments: list[str]) -> int:
    """parl crossplay RUN RUN ... [--episodes N] [--out DIR]."""
    flags = parse(CrossplayFlags, arguments, "parl crossplay")
    if flags.episodes < 1:
        raise ConfigError(f"--episodes must be at least 1, not {flags.episodes}.")
    from parl.crossplay import crossplay as play
    from parl.crossplay import show

    show(play(flags.runs, flags.episodes, flags.seed, flags.sample), flags.out)
    return 0


def show_list(arguments: list[str]) -> int:
    """parl list."""
    if arguments:
        raise ConfigError(f"list takes no arguments, not '{arguments[0]}'.")
    from rich.console import Console
    from rich.table import Table

    from parl.envs.factory import JAX_ENVS, SUITES
    from parl.recipes import KINDS, RECIPES, recipe_class

    algorithms = Table("algorithm", "action spaces", "what it is", box=None, title_justify="left")
    algorithms.add_row("auto", "any", "Whichever of these the environment asks for.")
    for name in RECIPES:
        recipe = recipe_class(name)
        spaces = ", ".join(KINDS[kind.__name__] for kind in recipe.serves)
        algorithms.add_row(name, spaces, (recipe.__doc__ or "").splitlines()[0])
    suites = Table("prefix", "environments", "installed", "to install", box=None)
    for suite in SUITES:
        found = importlib.util.find_spec(suite.module) is not None
        state = "not served yet" if not suite.served else "yes" if found else "no"
        suites.add_row(suite.prefix or "(none)", suite.title, state, f"pip install {suite.pip}")
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(
        algorithms, "", suites, "", f"built in: {', '.join('jax:' + e for e in JAX_ENVS)}"
    )
    return 0


def cluster(arguments: list[str]) -> int:
    """parl cluster start [flags] | join HOST:PORT | status | stop."""
    action, rest = (arguments or [""])[0], arguments[1:]
    flags: Any = None
    if action in ("start", "join"):
        shape = ClusterStartFlags if action == "start" else ClusterJoinFlags
        flags = parse(shape, rest, f"parl cluster {action}")
    elif action not in ("status", "stop") or rest:
        raise ConfigError(
            "cluster takes one of start [flags], join HOST:PORT, status or stop, not "
            f"'{' '.join(arguments)}'."
        )

    from parl.remote import cluster

    if action == "start":
        address = cluster.start(flags.host, flags.port, flags.num_cpus).address
        print(f"cluster at {address}; `parl cluster stop` ends it")
    elif action == "join":
        print(f"a node of {cluster.join(flags.address, flags.num_cpus).address} runs here")
    elif action == "status":
        print(cluster.status())
    else:
        print(*(f"stopped the node of {node.address}" for node in cluster.stop()), sep="\n")
    return 0


def report(result: dict[str, Any], path: Path) -> None:
    """The result in two lines on stdout."""
    print(returns_line(result))
    print(
        f"{result['env_steps']:,} steps in {result['wall_s']:.1f} s "
        f"({result['compile_s']:.1f} s compiling), run directory {path}"
    )


def returns_line(result: dict[str, Any]) -> str:
    """Mean and standard deviation of greedy returns, for people."""
    mean, std = shown(result["return_mean"]), shown(result["return_std"])
    return f"return {mean} ± {std} over {result['episodes']} greedy episodes"


def shown(value: Any) -> str:
    """A number, or one per seed."""
    if isinstance(value, list):
        return "[" + ", ".join(f"{x:.1f}" for x in value) + "]"
    return f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
