"""Settings and the values they may take, the same for flags, files and keywords.

A setting is declared once, with its type, bounds and meaning. Only `checked` compares a value with
the declaration.
"""

import dataclasses
import math
import re
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from parl.core.errors import ConfigError, nearest

REAL = (int, float, np.integer, np.floating)
INT_MAX = 2**31 - 1  # programs count in int32
NAME_MAX = 255  # bytes of a file's name
FLOAT_MAX = float(np.finfo(np.float32).max)
POWER = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # 1e5, which YAML 1.1 takes for text

# Names of settings in other libraries, and the possible names here.
SYNONYMS = {
    "lr": ("learning_rate",),
    "alpha": ("learning_rate",),
    "n_envs": ("num_envs",),
    "n_env": ("num_envs",),
    "nenvs": ("num_envs",),
    "total_timesteps": ("steps",),
    "timesteps": ("steps",),
    "n_timesteps": ("steps",),
    "total_steps": ("steps",),
    "max_steps": ("steps",),
    "n_steps": ("length",),
    "num_steps": ("length",),
    "rollout_length": ("length",),
    "rollout_steps": ("length",),
    "horizon": ("length",),
    "bs": ("batch_size",),
    "minibatch_size": ("minibatches", "batch_size"),
    "n_minibatches": ("minibatches",),
    "num_minibatches": ("minibatches",),
    "n_epochs": ("epochs",),
    "num_epochs": ("epochs",),
    "update_epochs": ("epochs",),
    "buffer_size": ("capacity",),
    "replay_size": ("capacity",),
    "replay_buffer_size": ("capacity",),
    "learning_starts": ("warmup",),
    "start_steps": ("warmup",),
    "warmup_steps": ("warmup",),
    "gradient_steps": ("updates",),
    "utd": ("updates",),
    "utd_ratio": ("updates",),
    "train_freq": ("length",),
    "clip_range": ("clip",),
    "clip_coef": ("clip",),
    "clip_param": ("clip",),
    "ent_coef": ("entropy_cost", "initial_temperature"),
    "entropy_coef": ("entropy_cost", "initial_temperature"),
    "vf_coef": ("value_cost",),
    "value_coef": ("value_cost",),
    "gae_lambda": ("lambda_",),
    "gae": ("lambda_",),
    "discount": ("gamma",),
    "polyak": ("tau",),
    "target_update_interval": ("target_period",),
    "exploration_final_eps": ("epsilon_end",),
    "exploration_initial_eps": ("epsilon_start",),
    "exploration_fraction": ("epsilon_steps",),
    "net_arch": ("hidden",),
    "layers": ("hidden",),
    "hidden_sizes": ("hidden",),
    "hidden_size": ("hidden",),
    "lstm": ("recurrent",),
    "rnn": ("recurrent",),
    "n_step_return": ("n_step",),
    "seeds": ("num_seeds",),
    "n_seeds": ("num_seeds",),
    "num_workers": ("actors",),
    "n_workers": ("actors",),
    "workers": ("actors",),
    "num_actors": ("actors",),
    "env_id": ("env",),
    "environment": ("env",),
    "env_kwargs": ("env_arg",),
    "env_args": ("env_arg",),
    "eval_freq": ("eval_every",),
    "n_eval_episodes": ("eval_episodes",),
    "save_freq": ("checkpoint_every",),
    "save_every": ("checkpoint_every",),
    "output": ("out",),
    "logdir": ("out",),
    "log_dir": ("out",),
    "save_path": ("out",),
    "verbose": ("quiet",),
    "silent": ("quiet",),
}

# Settings of other libraries that do not exist here, and what to use instead.
ELSEWHERE = {
    "device": "JAX takes the accelerator it finds; JAX_PLATFORMS=cpu keeps it on the CPU.",
    "gpu": "JAX takes the accelerator it finds; JAX_PLATFORMS=cpu keeps it on the CPU.",
    "cuda": "JAX takes the accelerator it finds; JAX_PLATFORMS=cpu keeps it on the CPU.",
    "policy": "Networks follow from the observations; their sizes are a setting, hidden.",
}


@dataclass(frozen=True)
class Setting:
    """The meaning of a setting and its allowed values."""

    doc: str = ""
    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # exclude low itself
    choices: tuple[str, ...] = ()


def declared(default: Any, **bounds: Any) -> Any:
    """A dataclass field that holds a setting; the docstring below the field gives its meaning."""
    return dataclasses.field(default=default, metadata={"setting": Setting(**bounds)})


@cache
def kinds(owner: type) -> Mapping[str, Any]:
    """The types of a dataclass' fields, by name."""
    hints = typing.get_type_hints(owner)
    return {f.name: hints[f.name] for f in dataclasses.fields(owner)}


def check_fields(settings: Any) -> None:
    """Checks every field of a frozen dataclass and converts it to its type. Raises ConfigError."""
    types = kinds(type(settings))
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        rule = f.metadata.get("setting", Setting())
        object.__setattr__(settings, f.name, checked(f.name, value, types[f.name], rule))


def checked(name: str, value: Any, kind: Any, rule: Setting = Setting()) -> Any:
    """A value converted to its declared type: lists to tuples, whole floats to integers.

    Raises ConfigError if it is of another type, not finite or out of bounds.
    """
    value = as_tuple(value)
    if typing.get_origin(kind) is tuple and isinstance(value, tuple):
        return tuple(checked(name, x, typing.get_args(kind)[0], rule) for x in value)
    try:
        value = converted(value, kind)
    except (TypeError, ValueError, OverflowError):
        names = " or ".join(names_of(kind))
        raise ConfigError(f"setting '{name}' must be {names}, not {brief(value)}.") from None
    check_bounds(name, value, rule)
    return value


def converted(value: Any, kind: Any) -> Any:
    """A value converted to one of the types of `kind`. Raises TypeError or ValueError."""
    if kind is Any:
        return value
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        choices = typing.get_args(kind)
        if value is None and type(None) in choices:
            return None
        return converted(value, next(k for k in choices if k is not type(None)))
    kind = typing.get_origin(kind) or kind
    if kind in (int, float):
        return number_of(value, kind)
    if kind is bool and isinstance(value, np.bool_):
        return bool(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind):
        raise TypeError
    return value


def number_of(value: Any, kind: type) -> int | float:
    """An int or float, also from text such as 1e5; a bool or a fraction is not an int."""
    if isinstance(value, str) and POWER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, REAL):
        raise TypeError
    if kind is float:  # integers are accepted and unchanged
        return int(value) if isinstance(value, int | np.integer) else float(value)
    whole = int(value)
    if value != whole:
        raise ValueError
    return whole


def check_bounds(name: str, value: Any, rule: Setting) -> None:
    """Raises ConfigError if a number is out of bounds or a word is not among the choices."""
    if isinstance(value, str):
        if rule.choices and value not in rule.choices:
            hint, known = nearest(value, rule.choices), ", ".join(rule.choices)
            raise ConfigError(f"unknown {name} '{value}'.{hint} Known: {known}.")
        if "\0" in value:
            raise ConfigError(f"{name} must not hold the character NUL, it is {brief(value)}.")
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be finite, it is {value}.")
    high = min(rule.high, INT_MAX if isinstance(value, int) else FLOAT_MAX)
    low = max(rule.low, -INT_MAX if isinstance(value, int) else -FLOAT_MAX)
    if value > high:
        raise ConfigError(f"{name} must be at most {plain(high)}, not {brief(value)}.")
    if rule.above and np.float32(value) <= low:
        raise ConfigError(f"{name} must be more than {plain(low)}, not {brief(value)}.")
    if value < low:
        said = f"must be at least {plain(low)}, not"
        raise ConfigError(
            f"{name} {said if low else 'must not be negative, it is'} {brief(value)}."
        )


def path_of(name: Any) -> Path:
    """A path that a file system accepts. Raises ConfigError for anything else."""
    try:
        path = Path(name)
    except TypeError:
        raise ConfigError(f"a path must be text, not {brief(name)}.") from None
    if "\0" in str(path):
        raise ConfigError(f"the path {brief(str(path))} holds the character NUL.")
    if long := [part for part in path.parts if len(part.encode(errors="replace")) > NAME_MAX]:
        raise ConfigError(f"the name {brief(long[0])} is longer than {NAME_MAX} bytes.")
    return path


def as_tuple(value: Any) -> Any:
    """Lists, as JSON and YAML have them, as tuples."""
    return tuple(value) if isinstance(value, list) else value


def names_of(kind: Any) -> list[str]:
    """The names of a setting's types, for an error message."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [name for k in typing.get_args(kind) for name in names_of(k)]
    kind = typing.get_origin(kind) or kind
    name = "None" if kind is type(None) else getattr(kind, "__name__", str(kind))
    return [name, "int"] if kind is float else [name]


def brief(value: Any) -> str:
    """A short text for a value of any size."""
    try:
        return reprlib.repr(value)
    except ValueError:  # of an integer with thousands of digits
        return f"a {type(value).__name__}"


def plain(number: float) -> str:
    """A bound as text: 1 rather than 1.0."""
    return f"{int(number):,}" if 1e6 <= abs(number) < 1e15 else f"{number:g}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown setting: the nearest one here, or what to use instead."""
    names = list(known)
    word = name.lstrip("-").replace("-", "_").lower()
    if found := [ours for ours in SYNONYMS.get(word, ()) if ours in names]:
        return f" Did you mean {found[0]}?"
    if word in names:
        return f" Did you mean {word}?"
    return f" {ELSEWHERE[word]}" if word in ELSEWHERE else nearest(word, names)
