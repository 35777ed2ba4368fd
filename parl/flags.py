"""The flags of the command line: their names, defaults and help, and how they are parsed.

Bad flags are a ConfigError of one sentence.
"""

import contextlib
import dataclasses
import io
import itertools
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml

from parl.core.errors import ConfigError, nearest


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
    actors: int = 0
    """Ray actors that play the rows side by side; 0 for none."""
    address: str = "local"
    """Ray cluster: local (one of its own), auto (the one of this machine), or HOST:PORT."""
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


def train_flags(
    algorithm: str, env: str | None, given: dict[str, Any], arguments: list[str]
) -> tuple[TrainFlags, dict[str, Any]]:
    """The parsed flags and the recipe's settings that differ from the recipe for this env."""
    from parl.build import recipe_for
    from parl.envs.factory import make_factory
    from parl.recipes import recipe_class
    from parl.recipes.auto import AUTO

    picks = algorithm == AUTO
    recipe = None if picks else recipe_class(algorithm)
    if env:
        _, recipe = recipe_for(algorithm, make_factory(env))
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
    origin = sys.modules[type(recipe).__module__].__doc__ or ""  # of the settings
    prog, default = f"parl train {algorithm}", shape(**as_fields(given))
    flags = parse(shape, arguments, prog, default, origin)
    chosen = {name: getattr(flags, name) for name in defaults}
    return flags, {name: value for name, value in chosen.items() if value != defaults[name]}


def flag_of(name: str) -> Any:
    """How a setting's flag is called: `lambda_` only avoids a word of Python's."""
    return tyro.conf.arg(name=name.rstrip("_").replace("_", "-"))


def as_fields(given: dict[str, Any]) -> dict[str, Any]:
    """YAML's lists as tuples and its paths as paths."""
    values = {name: tuple(x) if isinstance(x, list) else x for name, x in given.items()}
    return values | {"out": Path(str(values["out"]))} if values.get("out") else values


def parse(
    shape: type, arguments: list[str], prog: str, default: Any = None, description: str = ""
) -> Any:
    """Flags into a dataclass. Raises ConfigError for an unknown flag or an unusable value."""
    options = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            flags, rest = tyro.cli(
                shape,
                prog=prog,
                description=description,
                args=arguments,
                return_unknown_args=True,
                **options,
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


class Loader(yaml.SafeLoader):
    """YAML whose numbers may be written as 3e-4, which its version 1.1 takes for text."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> Any:
    """What YAML says. Raises yaml.YAMLError."""
    return yaml.load(text, Loader)  # a safe loader


def read_yaml(path: str | None) -> dict[str, Any]:
    """The settings of a YAML file, by their names with underscores."""
    if path is None:
        return {}
    try:
        content = parse_yaml(Path(path).read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold settings as 'name: value' lines.")
    return {str(name).replace("-", "_"): value for name, value in content.items()}
