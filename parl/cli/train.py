"""parl train ALGO --env ID [flags]."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from parl.cli.flags import Place, flag_of, flag_values, parse, unknown
from parl.cli.printing import HELP, print_result
from parl.core.errors import ConfigError
from parl.core.settings import brief
from parl.report.announce import announced
from parl.runs.config import RUN_FIELDS, RunSettings, spread
from parl.runs.settings_file import read_settings

USAGE = """usage: parl train ALGO --env ID [flags]

Trains an algorithm on an environment and writes a run directory with its metrics, checkpoints,
result and learning curve. 'parl list' names the algorithms and environments; ALGO auto picks one.

  --env ID         HalfCheetah-v5 (Gymnasium), jax:CartPole-v1 (built in), my_lab:Maze (your own)
  --steps N        environment steps of each seed
  --num-seeds K    seeds trained together
  --actors N       rollout actors on Ray
  --out DIR        the run directory
  --config FILE    a YAML file with any of the settings

'parl train ALGO --env ID --help' lists every setting with its default for that environment."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFlags(RunSettings):
    """Settings of the run; the recipe's follow."""

    env: str = ""
    """Environment: HalfCheetah-v5 (Gymnasium), jax:CartPole-v1 (built in), ale:Pong-v5, ..."""
    env_arg: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An argument of the environment, name=value; repeat for more. Also: --env 'ID?name=value'."""
    out: Place = None
    """Run directory; if not given, a new one under runs/. With a URI such as s3://bucket/run, gs://,
    hf:// or file:// the run is also copied there while it trains."""
    config: Path | None = None
    """YAML file with any of these settings and the algorithm, or a run's config.json; flags win."""
    quiet: bool = False
    """Show no progress."""


class Command(NamedTuple):
    """What a command that trains was given."""

    algorithm: str
    factory: Any  # of the environment, or of the data, which cannot be stepped
    env: Any  # the factory of the environment; None without one
    flags: Any
    settings: dict[str, Any]  # the recipe's that differ from its own

    @property
    def keywords(self) -> dict[str, Any]:
        """The settings of the run and the recipe's, as `parl.train` takes them."""
        return {name: getattr(self.flags, name) for name in RUN_FIELDS} | self.settings


def run(arguments: list[str]) -> int:
    """parl train ALGO --env ID ...; a file of --config may name both."""
    if len(arguments) == 1 and arguments[0] in HELP:
        print(USAGE)
        return 0
    command = read_command("train", arguments, TrainFlags)
    from parl import api
    from parl.recipes.auto import AUTO, pick

    flags, factory = command.flags, command.factory
    if command.algorithm == AUTO and flags.quiet:
        print(pick(factory.spec, factory.jax is not None).line(factory.spec))
    done = api.train(command.algorithm, command.env, flags.out, flags.quiet, **command.keywords)
    print_result(done.result, done.path)
    return 0


def read_command(verb: str, arguments: list[str], shape: type["TrainFlags"]) -> Command:
    """The algorithm, environment and flags of 'parl VERB ALGO --env ID ...'. Raises ConfigError."""
    named = bool(arguments) and not arguments[0].startswith("-")
    rest = with_range(arguments[named:])
    file = (flag_values(rest, "--config") or [None])[-1]
    given = read_settings(file) if file else {}
    algorithm = arguments[0] if named else given.get("algorithm")
    if algorithm is None:
        raise ConfigError(f"{verb} needs an algorithm first: parl {verb} sac --env HalfCheetah-v5.")
    given.pop("algorithm", None)
    env = (flag_values(rest, "--env") or [given.get("env") or ""])[-1]
    for what, name in (("algorithm", algorithm), ("env", env)):
        if not isinstance(name, str):
            raise ConfigError(f"{file}: {what} must be a name, not {brief(name)}.")
    more = flag_values(rest, "--env-arg") or environment_arguments(given.get("env_arg", ()))
    given["env_arg"] = tuple(more)

    asks_help = not {"-h", "--help"}.isdisjoint(rest)
    with announced(quiet="--quiet" in rest or asks_help):
        from parl.envs.ids import with_arguments
        from parl.recipes import plain_name

        algorithm = plain_name(algorithm)
        data = (flag_values(rest, "--data") or [str(given.get("data") or "")])[-1]
        env = with_arguments(env, more) if env else ""
        factory, recipe = opened(verb, algorithm, env, asks_help, shape, data)
        title = f"parl {verb} {algorithm}"
        flags, settings = train_flags(title, recipe, given, rest, bool(env), shape)
    return Command(algorithm, factory, factory if env else None, flags, settings)


def with_range(arguments: list[str]) -> list[str]:
    """The arguments with `--actors MIN:MAX` as `--min-actors MIN --actors MAX`."""
    given = flag_values(arguments, "--actors")
    if not given or ":" not in given[-1]:
        return arguments
    least, most = map(str, spread(given[-1]))
    joined = [x.replace(given[-1], most) if x.startswith("--actors=") else x for x in arguments]
    after = [i + 1 for i, x in enumerate(joined) if x == "--actors"]
    return [most if i in after else x for i, x in enumerate(joined)] + ["--min-actors", least]


def opened(
    verb: str,
    algorithm: str,
    env: str,
    asks_help: bool,
    shape: type["TrainFlags"],
    data: str = "",
) -> tuple[Any, Any]:
    """The environment's factory and recipe; for --help without an environment, only a recipe.

    Without an environment it is that of the `data`, which cannot be stepped.
    """
    from parl.core.loading import is_path
    from parl.envs.factory import make_factory
    from parl.recipes import recipe_class
    from parl.recipes.auto import AUTO
    from parl.runs.build import recipe_for

    if algorithm == AUTO and not env and asks_help:
        said = "Picks an algorithm: with --env ID its name and its settings are shown here, too."
        parse(shape, ["--help"], f"parl {verb} auto", description=said)  # ends here
    if algorithm != AUTO:
        if not is_path(algorithm):
            recipe_class(algorithm)  # raises for an unknown one
        if not env and asks_help:
            default: Any = recipe_class(algorithm)
            return None, default()
    if not env and data:
        from parl.runs.data import known_by_data

        factory = known_by_data(data)
        return factory, recipe_for(algorithm, factory)[1]
    if not env:
        raise ConfigError(
            f"{verb}{' auto' * (algorithm == AUTO)} needs an environment: --env HalfCheetah-v5, "
            "--env jax:CartPole-v1."
        )
    factory = make_factory(env)
    return factory, recipe_for(algorithm, factory)[1]


def train_flags(
    title: str,
    recipe: Any,
    given: dict[str, Any],
    arguments: list[str],
    for_env: bool = True,
    base: type[TrainFlags] = TrainFlags,
) -> tuple[TrainFlags, dict[str, Any]]:
    """The parsed flags and the recipe's settings that differ from the recipe's own.

    `given` are settings from a file, which flags override; `for_env` says whether the recipe's
    settings are those for an environment.
    """
    defaults = recipe.settings()
    own = [field.name for field in dataclasses.fields(base)]
    if odd := given.keys() - {*own} - defaults.keys():
        raise unknown("setting", sorted(odd)[0], [*own, *defaults])
    fields = [
        (name, Annotated[kind, flag_of(name, recipe.declared(name).doc)], defaults[name])
        for name, kind in recipe.types().items()
    ]
    shape = dataclasses.make_dataclass(
        base.__name__,
        [(name, kind, dataclasses.field(default=value)) for name, kind, value in fields],
        bases=(base,),
        frozen=True,
        kw_only=True,
    )
    chosen = {name: value for name, value in given.items() if name in defaults}
    rest = {name: value for name, value in given.items() if name not in defaults}
    default = shape(**rest, **{k: recipe.override(chosen).settings()[k] for k in chosen})
    origin = sys.modules[type(recipe).__module__].__doc__ or ""  # of the settings
    if not for_env:
        origin += "\n\nDefaults depend on the environment; with --env ID those for it are shown."
    flags = parse(shape, arguments, title, default, origin)
    found = {name: getattr(flags, name) for name in defaults}
    return flags, {name: value for name, value in found.items() if value != defaults[name]}


def environment_arguments(given: Any) -> list[str]:
    """The environment's arguments from a file, in the form of flags: name=value."""
    if isinstance(given, dict):
        return [f"{name}={json.dumps(value)}" for name, value in given.items()]
    return [str(x) for x in (given if isinstance(given, list | tuple) else [given])]
