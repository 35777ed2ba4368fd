"""User functions that a run calls, which may also end it early.

Hooks get plain values and do not affect learning: with and without them a run has the same
parameters. A hook that raises ends the run like an interrupt: it is saved and can be resumed.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from parl.core.errors import ConfigError, ParlError
from parl.core.loading import OBJECT, called, load
from parl.envs.info import as_number
from parl.report.prometheus import Exporter
from parl.report.sinks import SINKS
from parl.runs.config import RunConfig

Hook = Callable[[dict[str, Any]], Any]


class Stop(Exception):
    """Returned or raised by a hook: the run evaluates, saves and ends here, for this reason."""

    def __init__(self, reason: str = "a hook asked for it"):
        super().__init__(reason)
        self.reason = reason


class NextEnv:
    """Returned by a hook: the training environments continue with these parameters.

    Parameters are numbers, bools or strings. For a JAX environment they are attributes that its
    `reset` and `step` read, and become data of the compiled program. For others they are keywords
    of its method `set_parameters`, or attributes. Evaluation keeps the run's original environment.
    """

    def __init__(self, **parameters: bool | int | float | str):
        for name, value in parameters.items():
            if not isinstance(value, bool | int | float | str):
                raise ConfigError(f"NextEnv({name}=...) must be a number or a word: {value!r:.60}.")
        self.parameters = parameters


class Answer(NamedTuple):
    """The requests of hooks."""

    reason: str = ""  # for ending the run; empty: go on
    parameters: dict[str, Any] = {}  # noqa: RUF012  new ones of the environments
    metrics: dict[str, float] = {}  # noqa: RUF012  for the next line of metrics


class HookError(ParlError):
    """A function named by a setting raised."""

    exit_code = 1


@dataclass(frozen=True)
class Hooks:
    """Functions that a run calls with one dict of plain values.

    A hook may return or raise `Stop`, which ends the run. It may return a dict of numbers, which
    appear in the next line of metrics as user/NAME, or `NextEnv`, which changes the training
    environments (not from `on_checkpoint` and `on_end`), or a list of these.
    """

    on_start: Hook | None = None
    """Before the first step: path, env_steps, config."""
    on_record: Hook | None = None
    """For each line of metrics.jsonl: the line."""
    on_evaluation: Hook | None = None
    """After each evaluation: env_steps and its results, with the names of result.json."""
    on_checkpoint: Hook | None = None
    """After each checkpoint: env_steps, path."""
    on_end: Hook | None = None
    """After the last step: the content of result.json."""

    def __post_init__(self) -> None:
        for name, hook in vars(self).items():
            if hook is not None and not callable(hook):
                raise ConfigError(f"{name} must be a function of one dict, not {hook!r}.")


HOOKS = tuple(f.name for f in dataclasses.fields(Hooks))


def named(given: Mapping[str, Any]) -> tuple[Hooks, dict[str, Any]]:
    """(hooks given as functions, the name of every given hook).

    Names of the form module:function are loaded when the run starts or is resumed.
    """
    functions = {name: x for name, x in given.items() if x is not None and not isinstance(x, str)}
    hooks = Hooks(**functions)
    return hooks, {name: called(x) for name, x in given.items() if x is not None}


def with_settings(hooks: Hooks, config: RunConfig) -> list[Hooks]:
    """The user's hooks, followed by those of the run's settings. Raises ConfigError."""
    found = {name: getattr(hooks, name) or loaded(name, getattr(config, name)) for name in HOOKS}
    loggers = [logger(name) for name in config.log]
    if config.metrics_port is not None:
        loggers.append(listening(Exporter(config.metrics_port)))
    if config.actors and config.address != "local":
        from parl.remote.watched import Telling  # only now: it loads Ray

        loggers.append(listening(Telling()))
    if config.stop_at is None:
        return [Hooks(**found), *loggers]
    return [Hooks(**found), *loggers, Hooks(on_evaluation=partial(stop_at, config.stop_at))]


def logger(name: str) -> Hooks:
    """The hooks of one `log`: a tracker by its name, or a function. Raises ConfigError."""
    if name in SINKS:
        return listening(SINKS[name]())
    return Hooks(on_record=loaded("log", name))


def listening(sink: Any) -> Hooks:
    """The hooks of an object with three functions."""
    return Hooks(on_start=sink.on_start, on_record=sink.on_record, on_end=sink.on_end)


def lost(hooks: Hooks, config: RunConfig) -> list[str]:
    """Hooks that the run was started with as objects and that were not given again."""
    return [
        f"{name}={getattr(config, name).removesuffix(OBJECT)}"
        for name in HOOKS
        if getattr(config, name).endswith(OBJECT) and getattr(hooks, name) is None
    ]


def loaded(setting: str, name: str) -> Hook | None:
    """The function `module:function` of a setting. Raises ConfigError.

    None without a name, or if it names an object.
    """
    if not name or name.endswith(OBJECT):
        return None
    found = load(name)
    if not callable(found):
        raise ConfigError(f"{setting} '{name}' must name a function of one dict, not {found!r}.")

    def hook(values: dict[str, Any]) -> Any:
        try:
            return found(values)
        except Stop:
            raise
        except Exception as error:
            raise HookError(f"{name} raised {type(error).__name__}: {error}") from error

    return hook


def stop_at(least: float, evaluation: dict[str, Any]) -> Stop | None:
    """Stops a run once an evaluation's mean return over seeds reaches `least`."""
    found = evaluation["return"]
    if found is None:  # no episode has ended
        return None
    value = found["mean"]
    return Stop(f"the return {value:g} has come to {least:g}") if value >= least else None


def tell(hooks: Sequence[Hooks], name: str, values: dict[str, Any]) -> Answer:
    """Calls all hooks of a name and merges their answers. Raises ConfigError for invalid ones."""
    reason, parameters, metrics = "", {}, {}
    for each in hooks:
        hook: Hook | None = getattr(each, name)
        if hook is None:
            continue
        try:
            answer = hook(values)
        except Stop as stop:
            answer = stop
        for part in answer if isinstance(answer, list | tuple) else [answer]:
            if isinstance(part, Stop):
                reason = reason or part.reason
            elif isinstance(part, NextEnv):
                if name in ("on_checkpoint", "on_end"):
                    raise ConfigError(f"{name} cannot change the environments: return NextEnv "
                                      "from on_start, on_record or on_evaluation.")  # fmt: skip
                parameters |= part.parameters
            elif isinstance(part, Mapping):
                metrics |= {f"user/{key}": number(key, x) for key, x in part.items()}
    return Answer(reason, parameters, metrics)


def number(name: Any, value: Any) -> float:
    """A user's metric as a float. Raises ConfigError if it is not a number."""
    found = as_number(value)
    if found is None:
        raise ConfigError(f"the metric {name!r} of a hook is {value!r:.60}, which is not a number.")
    return found
