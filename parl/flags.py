"""The flags of the command line: their names, defaults and help, and how they are parsed.

Bad flags are a ConfigError of one sentence.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import re
import sys
import typing
from pathlib import Path
from typing import Annotated, Any

import tyro

from parl.config import RunSettings
from parl.core.errors import ConfigError
from parl.core.settings import check_fields, converted, declared, kinds, names_of, suggestion
from parl.core.yaml_text import parse_yaml


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFlags(RunSettings):
    """Settings of the run; the recipe's follow."""

    env: str = ""
    """Environment: HalfCheetah-v5 (Gymnasium), jax:CartPole-v1 (built in), ale:Pong-v5, ..."""
    env_arg: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An argument of the environment, name=value; repeat for more. Also: --env 'ID?name=value'."""
    out: Path | None = None
    """Run directory; if not given, a new one under runs/."""
    config: Path | None = None
    """YAML file with any of these settings and the algorithm, or a run's config.json; flags win."""
    quiet: bool = False
    """Show no progress."""


@dataclasses.dataclass(frozen=True)
class Flags:
    """Base of the commands' flags: their values are checked when they are given."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class ResumeFlags(Flags):
    """Continue a run."""

    dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    steps: int | None = None
    """Train to this many environment steps instead of the run's own."""
    schedule: str | None = None
    """Learning rates of a longer run, with --steps: stretch has them fall over all steps, as if the
    run had been that long from the start; restart begins anew for the added steps; keep leaves them
    at what they came to, perhaps 0, where nothing more is learned. Not given: stretch."""
    address: str | None = None
    """Ray cluster to go on with instead of the run's own."""
    checkpoint: str = "latest"
    """Where to go on from: latest, best, or the environment steps of a checkpoint; newer ones and
    their metrics are dropped."""
    quiet: bool = False
    """Show no progress."""


@dataclasses.dataclass(frozen=True)
class EvalFlags(Flags):
    """Greedy returns of a run's policy."""

    dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    checkpoint: str = "latest"
    """Whose policy: latest, best, or the environment steps of a checkpoint."""
    episodes: int = declared(10, low=1, high=1_000_000)
    """Episodes to play."""
    seed: int = declared(0, low=0)
    """Seed of the environments."""
    env: str | None = None
    """Another environment of the same spaces to play in."""
    opponent: str | None = None
    """Who plays the other sides, random or a run, in place of the run's own opponent."""
    sample: bool = False
    """Actions are drawn from the policy; else they are the likeliest."""
    max_steps: int | None = declared(None, low=1)
    """Steps after which an episode is cut; not given: the environment's time limit, or 10,000."""
    log_info: str | None = None
    """Numbers of the environment's info to show, such as success,score, in place of the run's."""


@dataclasses.dataclass(frozen=True)
class CrossplayFlags(Flags):
    """Play the policies of runs against each other."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories of the runs, two or more."""
    checkpoint: str = "latest"
    """Whose policies: those of the latest or of the best checkpoints, or the environment steps of
    one."""
    episodes: int = declared(100, low=1, high=1_000_000)
    """Episodes of each pair."""
    seed: int = declared(0, low=0)
    """Seed of the environments."""
    sample: bool = False
    """Policies sample their actions; else they take the likeliest, and a game without chance is
    always the same."""
    actors: int = declared(0, low=0, high=100_000)
    """Ray actors that play the rows side by side; 0 for none."""
    address: str = "local"
    """Ray cluster: local (one of its own), auto (the one of this machine), or HOST:PORT."""
    out: Path | None = None
    """Directory for crossplay.json and crossplay.png."""


@dataclasses.dataclass(frozen=True)
class ClusterStartFlags(Flags):
    """Start a Ray cluster with this machine as its first node."""

    port: int = 6379
    """Port that other nodes and programs call."""
    host: str = "127.0.0.1"
    """Address of this machine to listen at; for any but loopback, set RAY_AUTH_MODE=token."""
    num_cpus: int | None = declared(None, low=0)
    """CPUs to offer, one for each rollout worker; all of the machine's if not given."""


@dataclasses.dataclass(frozen=True)
class ClusterJoinFlags(Flags):
    """Make this machine a node of the Ray cluster at HOST:PORT."""

    address: tyro.conf.Positional[str]
    """HOST:PORT of the cluster."""
    num_cpus: int | None = declared(None, low=0)
    """CPUs to offer, one for each rollout worker; all of the machine's if not given."""


def train_flags(
    algorithm: str,
    recipe: Any,
    given: dict[str, Any],
    arguments: list[str],
    for_env: bool = True,
) -> tuple[TrainFlags, dict[str, Any]]:
    """The parsed flags and the recipe's settings that differ from the recipe's own.

    `given` are settings of a file, which flags win over; `for_env`: the recipe's are those for an
    environment.
    """
    defaults = recipe.settings()
    base = {field.name: field for field in dataclasses.fields(TrainFlags)}
    if odd := given.keys() - base.keys() - defaults.keys():
        raise unknown("setting", sorted(odd)[0], [*base, *defaults])
    fields = [
        (name, Annotated[kind, flag_of(name, recipe.declared(name).doc)], defaults[name])
        for name, kind in recipe.types().items()
    ]
    shape = dataclasses.make_dataclass(
        "TrainFlags",
        [(name, kind, dataclasses.field(default=value)) for name, kind, value in fields],
        bases=(TrainFlags,),
        frozen=True,
        kw_only=True,
    )
    own = {name: value for name, value in given.items() if name in defaults}
    rest = {name: value for name, value in given.items() if name not in defaults}
    default = shape(**rest, **{k: recipe.override(own).settings()[k] for k in own})
    origin = sys.modules[type(recipe).__module__].__doc__ or ""  # of the settings
    if not for_env:
        origin += "\n\nDefaults depend on the environment; with --env ID those for it are shown."
    flags = parse(shape, arguments, f"parl train {algorithm}", default, origin)
    chosen = {name: getattr(flags, name) for name in defaults}
    return flags, {name: value for name, value in chosen.items() if value != defaults[name]}


def flag_of(name: str, doc: str) -> Any:
    """How a setting's flag is called and explained: `lambda_` only avoids a word of Python's."""
    return tyro.conf.arg(name=name.rstrip("_").replace("_", "-"), help=doc)


FLAGS = tyro.constructors.ConstructorRegistry()
WORDS = {"true": True, "false": False, "none": None}


@FLAGS.primitive_rule
def as_setting(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    """Numbers, switches and lists from the command line, read as those of a file are."""
    kind, many = info.type, typing.get_origin(info.type) is tuple
    if not (many or {kind, *typing.get_args(kind)} & {int, float, bool}):
        return None  # words and paths, as tyro reads them
    item = typing.get_args(kind)[0] if many else kind
    if many and item not in (int, float):
        return None

    def read(words: list[str]) -> Any:
        texts = re.split(r"[\s,]+", " ".join(words).strip("[]() ,")) if many else words
        values = [value_of(text) for text in texts if text or not many]
        try:
            found = [converted(value, item) for value in values]
        except (TypeError, ValueError, OverflowError):
            said = " or ".join(names_of(kind))
            raise ValueError(f"must be {said}, not '{' '.join(words)}'") from None
        return tuple(found) if many else found[0]

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*" if many else 1,
        metavar=names_of(item)[0].upper() + " ..." * many,
        instance_from_str=read,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(x) for x in (value if many else (value,))],
    )


def value_of(text: str) -> Any:
    """A number, True, False or None, in whatever case; other text stays."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return parse_yaml(text)
    except ConfigError:
        return text


def switched(shape: type, arguments: list[str]) -> list[str]:
    """The flags with a value for every switch: --quiet is --quiet True, --no-quiet its opposite."""
    switches = {flag_name(n) for n, kind in kinds(shape).items() if kind is bool}
    words = []
    for i, word in enumerate(arguments):
        following = arguments[i + 1].lower() if i + 1 < len(arguments) else ""
        name = word.replace("_", "-")
        if name in switches and following not in WORDS:
            words += [word, "True"]
        elif name.startswith("--no-") and "--" + name[5:] in switches:
            words += ["--" + name[5:], "False"]
        else:
            words.append(word)
    return words


def flag_name(name: str) -> str:
    """A setting's flag."""
    return f"--{name.rstrip('_').replace('_', '-')}"


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
                args=switched(shape, arguments),
                return_unknown_args=True,
                config=(tyro.conf.FlagConversionOff,),
                registry=FLAGS,
                **options,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"{first_sentence(said.getvalue())}; see {prog} --help.") from stop
    if rest:
        names = [f.name for f in dataclasses.fields(shape)]
        raise unknown_flag(rest[0].partition("=")[0], names, prog)
    return flags


def first_sentence(box: str) -> str:
    """What an error box of tyro says between its title and the next rule."""
    lines = [line.strip(" │|") for line in box.splitlines()[1:]]
    is_rule = lambda line: set(line) <= set("─-╰╯")
    body = list(itertools.dropwhile(is_rule, lines))
    return " ".join(itertools.takewhile(lambda line: not is_rule(line), body)).rstrip(".")


def unknown(what: str, name: str, known: list[str]) -> ConfigError:
    """The error for a setting that does not exist."""
    hint = suggestion(name, known)
    return ConfigError(f"unknown {what} '{name}'.{hint} Known: {', '.join(known)}.")


def unknown_flag(word: str, names: list[str], prog: str) -> ConfigError:
    """The error for a flag that does not exist."""
    if not word.startswith("-"):
        return ConfigError(f"{prog} takes no argument '{word}'; see {prog} --help.")
    hint = suggestion(word, [flag_name(n)[2:].replace("-", "_") for n in names])
    head, _, name = hint.partition("Did you mean ")
    hint = f"{head}Did you mean --{name.replace('_', '-')}" if name else hint
    return ConfigError(f"unknown flag '{word}'.{hint} See {prog} --help.")


def flag_values(arguments: list[str], flag: str) -> list[str]:
    """Every value of a flag, before the others can be parsed."""
    found = []
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            found.append(arguments[i + 1])
        elif argument.startswith(flag + "="):
            found.append(argument.partition("=")[2])
    return found


def environment_arguments(given: Any) -> list[str]:
    """What a file says of the environment's arguments, as the flags would: name=value."""
    if isinstance(given, dict):
        return [f"{name}={json.dumps(value)}" for name, value in given.items()]
    return [str(x) for x in (given if isinstance(given, list | tuple) else [given])]
