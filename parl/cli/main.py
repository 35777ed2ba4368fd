"""The command line: the table of commands and their common behaviour.

Bad input prints one sentence to stderr and exits with code 2. Ctrl-C, SIGTERM and SIGHUP save first
and exit with 130, 143 and 129.
"""

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import parl
from parl.cli.printing import HELP
from parl.core.errors import ConfigError, ParlError, nearest
from parl.runs.interruption import Interrupted, Signals

USAGE = """usage: parl COMMAND ...

  parl train ALGO --env ID [flags]   train and write a run directory; ALGO auto picks one
  parl resume DIR [--steps N]        continue a run where its last checkpoint is
  parl eval DIR [--episodes N]       greedy returns of a run's policy
  parl crossplay RUN RUN ...         the policies of runs against each other
  parl exploit RUN                   what best responses gain against the policy, in small games
  parl export RUN [--to numpy onnx c js]   the policy as files that act without PARL and JAX
  parl check DIR                     whether an exported policy is as it was written
  parl serve DIR|RUN ... [--port N]  let policies act over HTTP
  parl distill RUN --hidden 32 32    a smaller network that acts as a run's policy does
  parl submit RUN|DIR --for NAME     a package for a competition, tested in a sandbox
  parl video RUN [--out FILE]        episodes of the policy as mp4, gif or png
  parl enjoy RUN                     episodes of the policy in a window
  parl demo RUN [--out FILE]         a page in which the policy acts, or is replayed
  parl record RUN --episodes N --out DIR   what a policy does, as a data set for --data
  parl data info|check|merge|split DIR   a data set described, checked, joined, parted
  parl tune ALGO --env ID --over learning_rate=1e-5:1e-2:log    the best settings, by Optuna
  parl sweep ALGO --env ID --over learning_rate=1e-4:1e-2:log   many settings, a run each
  parl reproduce RUN                 train it again: whether its parameters are the same
  parl runs [DIR]                    the runs in a directory
  parl show RUN                      a run: settings that differ, result, curve
  parl plot RUN ... [--out FILE]     learning curves of runs
  parl compare RUN ... [--out DIR]   runs compared over seeds, with intervals
  parl dashboard [DIR] [--port N]    a page of this machine that shows runs while they learn
  parl list                          algorithms and environments
  parl bench ALGO --env ID           how fast it trains, and where the time goes
  parl hub push|pull|list            runs and policies in a directory or store that others read
  parl doctor                        what works on this machine, and what to do about the rest
  parl cluster start|join|status|stop   a Ray cluster of one or more machines
  parl --version                     the version of PARL

'parl COMMAND --help' explains a command. 'parl train ALGO --env ID --help' lists every setting with
its default for that environment. --debug with any command shows the whole traceback of an error."""

# the module of each command: its flags, and run(arguments) -> exit code
COMMANDS = {
    "train": "parl.cli.train",
    "resume": "parl.cli.resume",
    "eval": "parl.cli.evaluate",
    "crossplay": "parl.cli.crossplay",
    "exploit": "parl.cli.exploit",
    "export": "parl.cli.export",
    "check": "parl.cli.check",
    "serve": "parl.cli.serve",
    "distill": "parl.cli.distill",
    "submit": "parl.cli.submit",
    "video": "parl.cli.video",
    "enjoy": "parl.cli.enjoy",
    "demo": "parl.cli.demo",
    "record": "parl.cli.record",
    "data": "parl.cli.data",
    "sweep": "parl.cli.sweep",
    "tune": "parl.cli.tune",
    "reproduce": "parl.cli.reproduce",
    "runs": "parl.cli.runs",
    "show": "parl.cli.show",
    "plot": "parl.cli.plot",
    "compare": "parl.cli.compare",
    "dashboard": "parl.cli.dashboard",
    "list": "parl.cli.catalogue",
    "bench": "parl.cli.bench",
    "hub": "parl.cli.hub",
    "doctor": "parl.cli.doctor",
    "cluster": "parl.cli.cluster",
}
DEBUG = "--debug"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    code = run(arguments)
    session: Any = sys.modules.get("parl.remote.connect")
    if session is not None:
        session.exit_code = code  # used if Ray keeps this process from exiting
    return code


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in arguments
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # find modules in the working directory, as with python -m
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
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("parl: interrupted.", file=sys.stderr)
        return 130


def dispatch(arguments: list[str]) -> int:
    """Runs the command named first."""
    if not arguments or arguments[0] in HELP:
        print(USAGE)
        return 0 if arguments else 2
    if arguments == ["--version"]:
        print(f"parl {parl.__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise ConfigError(f"unknown command '{name}'.{nearest(name, COMMANDS)} Known: {known}.")
    return importlib.import_module(COMMANDS[name]).run(rest)
