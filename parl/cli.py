"""The command line: parl train | resume | eval | crossplay | list | cluster.

Bad input is one sentence on stderr and exit code 2; Ctrl-C, SIGTERM and SIGHUP save first and exit
with 130, 143 and 129.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import parl
from parl.announce import announced
from parl.core.errors import ConfigError, ParlError, nearest
from parl.core.settings import brief
from parl.flags import (
    ClusterJoinFlags,
    ClusterStartFlags,
    CrossplayFlags,
    EvalFlags,
    ResumeFlags,
    TrainFlags,
    environment_arguments,
    flag_values,
    parse,
    train_flags,
)
from parl.interruption import Interrupted, Signals
from parl.settings_file import read_settings

USAGE = """usage: parl COMMAND ...

  parl train ALGO --env ID [flags]   train and write a run directory; ALGO auto picks one
  parl resume DIR [--steps N]        continue a run where its last checkpoint is
  parl eval DIR [--episodes N]       greedy returns of a run's policy
  parl crossplay RUN RUN ...         the policies of runs against each other
  parl list                          algorithms and environments
  parl cluster start|join|status|stop   a Ray cluster of one or more machines
  parl --version                     the version of PARL

'parl COMMAND --help' explains a command. 'parl train ALGO --env ID --help' lists every setting with
its default for that environment. --debug with any command shows the whole traceback of an error."""

TRAIN = """usage: parl train ALGO --env ID [flags]

Trains an algorithm on an environment and writes a run directory with its metrics, checkpoints,
result and learning curve. 'parl list' names the algorithms and environments; ALGO auto picks one.

  --env ID         HalfCheetah-v5 (Gymnasium), jax:CartPole-v1 (built in), my_lab:Maze (your own)
  --steps N        environment steps of each seed
  --num-seeds K    seeds trained together
  --actors N       rollout actors on Ray
  --out DIR        the run directory
  --config FILE    a YAML file with any of the settings

'parl train ALGO --env ID --help' lists every setting with its default for that environment."""

DEBUG = "--debug"

CLUSTER = """usage: parl cluster start [flags] | join HOST:PORT [flags] | status | stop

  start    a Ray cluster with this machine as its first node
  join     makes this machine a node of the cluster at HOST:PORT
  status   what the cluster of this machine has, and what of it is free
  stop     ends what runs here of a cluster

'parl cluster start --help' lists the flags of start, 'parl cluster join --help' those of join."""
HELP = {"-h", "--help", "help"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    code = run(arguments)
    session: Any = sys.modules.get("parl.remote.connect")
    if session is not None:
        session.exit_code = code  # where Ray does not let go of this process
    return code


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in arguments
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # modules beside the user are found, as with python -m
    try:
        with Signals(at_once="interrupted."):
            code = dispatch([each for each in arguments if each != DEBUG])
        sys.stdout.flush()
        return code
    except (ParlError, Interrupted) as error:
        if debug:
            traceback.print_exc()
        print(f"parl: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever read along, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("parl: interrupted.", file=sys.stderr)
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
    if not arguments or arguments[0] in HELP:
        print(USAGE)
        return 0 if arguments else 2
    if arguments == ["--version"]:
        print(f"parl {parl.__version__}")
        return 0
    name, *rest = arguments
    if name not in commands:
        known = ", ".join(commands)
        raise ConfigError(f"unknown command '{name}'.{nearest(name, commands)} Known: {known}.")
    return commands[name](rest)


def train(arguments: list[str]) -> int:
    """parl train ALGO --env ID ...; a file of --config may name both."""
    if len(arguments) == 1 and arguments[0] in HELP:
        print(TRAIN)
        return 0
    named = bool(arguments) and not arguments[0].startswith("-")
    rest = arguments[named:]
    file = (flag_values(rest, "--config") or [None])[-1]
    given = read_settings(file) if file else {}
    algorithm = arguments[0] if named else given.get("algorithm")
    if algorithm is None:
        raise ConfigError("train needs an algorithm first: parl train sac --env HalfCheetah-v5.")
    given.pop("algorithm", None)
    env = (flag_values(rest, "--env") or [given.get("env") or ""])[-1]
    for what, name in (("algorithm", algorithm), ("env", env)):
        if not isinstance(name, str):
            raise ConfigError(f"{file}: {what} must be a name, not {brief(name)}.")
    more = flag_values(rest, "--env-arg") or environment_arguments(given.get("env_arg", ()))
    given["env_arg"] = tuple(more)

    asks_help = not {"-h", "--help"}.isdisjoint(rest)
    with announced(quiet="--quiet" in rest or asks_help):
        from parl import api
        from parl.envs.ids import with_arguments
        from parl.recipes import plain_name
        from parl.recipes.auto import AUTO, pick

        algorithm = plain_name(algorithm)
        factory, recipe = opened(algorithm, with_arguments(env, more) if env else "", asks_help)
        flags, settings = train_flags(algorithm, recipe, given, rest, bool(env))
    if algorithm == AUTO and flags.quiet:
        print(pick(factory.spec, factory.jax is not None).line(factory.spec))
    run_fields = {name: getattr(flags, name) for name in api.RUN_FIELDS}
    run = api.train(algorithm, factory, flags.out, flags.quiet, **run_fields, **settings)
    report(run.result, run.path)
    return 0


def opened(algorithm: str, env: str, asks_help: bool) -> tuple[Any, Any]:
    """The environment's factory and the recipe for it; to explain settings a recipe will do."""
    from parl.build import recipe_for
    from parl.core.loading import is_path
    from parl.envs.factory import make_factory
    from parl.recipes import recipe_class
    from parl.recipes.auto import AUTO

    if algorithm == AUTO and not env and asks_help:
        said = "Picks an algorithm: with --env ID its name and its settings are shown here, too."
        parse(TrainFlags, ["--help"], "parl train auto", description=said)  # ends here
    if algorithm != AUTO:
        if not is_path(algorithm):
            recipe_class(algorithm)  # raises for an unknown one
        if not env and asks_help:
            default: Any = recipe_class(algorithm)
            return None, default()
    if not env:
        raise ConfigError(
            f"train{' auto' * (algorithm == AUTO)} needs an environment: --env HalfCheetah-v5, "
            "--env jax:CartPole-v1."
        )
    factory = make_factory(env)
    return factory, recipe_for(algorithm, factory)[1]


def resume(arguments: list[str]) -> int:
    """parl resume DIR [--steps N]."""
    flags = parse(ResumeFlags, arguments, "parl resume")
    with announced(quiet=flags.quiet):
        from parl import api

    run = api.resume(
        flags.dir,
        flags.steps,
        quiet=flags.quiet,
        address=flags.address,
        schedule=flags.schedule,
        checkpoint=flags.checkpoint,
    )
    report(run.result, run.path)
    return 0


def evaluate(arguments: list[str]) -> int:
    """parl eval DIR [--episodes N] [--seed S]."""
    flags = parse(EvalFlags, arguments, "parl eval")
    from parl import api

    evaluation = api.evaluate(
        flags.dir,
        flags.episodes,
        flags.seed,
        flags.env,
        flags.opponent,
        sample=flags.sample,
        max_steps=flags.max_steps,
        log_info=flags.log_info,
        checkpoint=flags.checkpoint,
    )
    from parl.logging import plain
    from parl.result import returns_line, told_at_end

    told = plain(told_at_end(evaluation, None, ()))
    if line := evaluation.cut_line("the environment"):
        print(f"parl: {line}", file=sys.stderr)
    print(returns_line(told, "sampled" if flags.sample else "greedy"))
    print(json.dumps(told))
    return 0


def crossplay(arguments: list[str]) -> int:
    """parl crossplay RUN RUN ... [--episodes N] [--actors N] [--out DIR]."""
    flags = parse(CrossplayFlags, arguments, "parl crossplay")
    from parl.crossplay import crossplay as play
    from parl.crossplay import show

    how = flags.episodes, flags.seed, flags.sample, flags.actors, flags.address, flags.checkpoint
    show(play(flags.runs, *how), flags.out)
    return 0


def show_list(arguments: list[str]) -> int:
    """parl list."""
    if HELP & set(arguments):
        print("usage: parl list\n\nAlgorithms, and environments with how to install them.")
        return 0
    if arguments:
        raise ConfigError(f"list takes no arguments, not '{arguments[0]}'.")
    from parl.catalogue import show

    show()
    return 0


def cluster(arguments: list[str]) -> int:
    """parl cluster start [flags] | join HOST:PORT | status | stop."""
    action, rest = (arguments or [""])[0], arguments[1:]
    flags: Any = None
    if action in HELP or (action in ("status", "stop") and HELP & set(rest)):
        print(CLUSTER)
        return 0
    if not action:
        raise ConfigError("cluster needs one of start [flags], join HOST:PORT, status or stop.")
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
        from parl.cluster_table import show

        show()
    else:
        print(*(f"stopped the node of {node.address}" for node in cluster.stop()), sep="\n")
    return 0


def report(result: dict[str, Any], path: Path) -> None:
    """The result in two lines on stdout."""
    from parl.result import returns_line, time_line

    print(returns_line(result))
    if "stopped" in result:
        print(f"ended early: {result['stopped']}")
    print(f"{time_line(result)}, run directory {path}")


if __name__ == "__main__":
    sys.exit(main())
