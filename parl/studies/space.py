"""The settings that a sweep tries: ranges and choices, and the trials drawn from them."""

import itertools
import math
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ConfigError
from parl.core.settings import brief
from parl.core.yaml_text import parse_yaml
from parl.recipes.base import Recipe
from parl.runs.settings_file import read_settings


class Range(NamedTuple):
    """Numbers from `low` to `high`, spread evenly or in their logarithms."""

    low: float
    high: float
    log: bool = False
    whole: bool = False  # integers only

    def at(self, share: float) -> float | int:
        """The number at a share in [0, 1] of the way, to six digits."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            value = math.exp(low + share * (high - low))
        else:
            value = self.low + share * (self.high - self.low)
        value = min(max(float(f"{value:.6g}"), self.low), self.high)
        return round(value) if self.whole else value

    def share(self, value: float) -> float:
        """The way from `low` to a number, in [0, 1]; the inverse of `at`."""
        scale = math.log if self.log else float
        low, high = scale(self.low), scale(self.high)
        return (scale(value) - low) / (high - low)

    def as_json(self) -> Any:
        return {"low": self.low, "high": self.high, "log": self.log}


class Choices(NamedTuple):
    """Some values, all as likely."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """The value at a share in [0, 1) of the way."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def as_json(self) -> Any:
        return list(self.values)


Space = dict[str, Range | Choices]


def read_space(given: Any, recipe: Recipe) -> Space:
    """The space of a text, of a YAML file, or of a mapping, for the settings of a recipe.

    Text is 'learning_rate=1e-4:1e-2:log,gamma=0.9,0.99,hidden=64x64,256'; a mapping has a list of
    values, or {low, high, log}, for each name. Raises ConfigError for anything else, for unknown
    settings, and for values that a setting does not take.
    """
    if isinstance(given, str) and Path(given).suffix in (".yaml", ".yml"):
        given = read_settings(given)
    if isinstance(given, str):
        given = split(given)
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(
            "over takes settings with a range or values each, such as "
            f"'learning_rate=1e-4:1e-2:log,gamma=0.9,0.99', not {brief(given)}."
        )
    plain = {str(name).replace("-", "_"): values for name, values in given.items()}
    types = recipe.types()
    if odd := [name for name in plain if name not in types]:
        recipe.override({odd[0]: None})  # raises, with a hint
    return {name: part(name, values, types[name], recipe) for name, values in plain.items()}


def split(text: str) -> dict[str, list[str]]:
    """The texts of the values of each name in 'a=1,2,b=3:4'."""
    found: dict[str, list[str]] = {}
    name = ""
    for word in filter(None, (word.strip() for word in text.split(","))):
        head, is_named, tail = word.partition("=")
        if is_named:
            name, word = head.strip(), tail.strip()
        if not name or not word:
            raise ConfigError(
                f"over is 'name=low:high[:log]' or 'name=value,value', separated by commas, and "
                f"'{word or name}' in '{text}' is neither."
            )
        found.setdefault(name, []).append(word)
    return found


def part(name: str, given: Any, kind: Any, recipe: Recipe) -> Range | Choices:
    """The range or the choices of one setting. Raises ConfigError."""
    if isinstance(given, list) and len(given) == 1 and ":" in str(given[0]):
        low, high, *rest = str(given[0]).split(":")
        if rest not in ([], ["log"]):
            raise ConfigError(f"'{name}={given[0]}' is no range: give low:high or low:high:log.")
        given = {"low": parse_yaml(low), "high": parse_yaml(high), "log": bool(rest)}
    if isinstance(given, Mapping):
        return range_of(name, given, kind, recipe)
    values = given if isinstance(given, list | tuple) else [given]
    read = [value_of(x, kind) if isinstance(x, str) else x for x in values]
    taken = [recipe.override({name: value}).settings()[name] for value in read]
    if len(set(map(repr, taken))) < len(taken):
        raise ConfigError(f"'{name}' has a value twice: {', '.join(map(str, taken))}.")
    return Choices(tuple(taken))


def range_of(name: str, given: Mapping, kind: Any, recipe: Recipe) -> Range:
    """The range of {low, high, log}. Raises ConfigError."""
    numeric = {int, float} & {kind, *typing.get_args(kind)}
    if not numeric or typing.get_origin(kind) is tuple:
        raise ConfigError(f"'{name}' is not one number, so it has no range: give its values.")
    if not {"low", "high"} <= set(given) <= {"low", "high", "log"}:
        raise ConfigError(f"the range of '{name}' needs low and high, and may have log: {given}.")
    low, high = (recipe.override({name: given[end]}).settings()[name] for end in ("low", "high"))
    log = bool(given.get("log", False))
    if not low < high:
        raise ConfigError(f"the range of '{name}' must rise: {low} to {high} does not.")
    if log and low <= 0:
        raise ConfigError(f"the range of '{name}' is logarithmic, so {low} must be above 0.")
    return Range(low, high, log, whole=float not in numeric)


def value_of(text: str, kind: Any) -> Any:
    """One value of a text; 64x64 is a tuple where the setting is one."""
    if typing.get_origin(kind) is tuple:
        return tuple(parse_yaml(each) for each in text.split("x"))
    words = {"true": True, "false": False, "none": None}
    return words[text.lower()] if text.lower() in words else parse_yaml(text)


def trials_of(space: Space, count: int | None, seed: int = 0) -> list[dict[str, Any]]:
    """The settings of each trial: a whole grid, or `count` of the space.

    With choices alone and no count that is every combination. A count is drawn by Latin hypercube
    (McKay et al. 1979): each setting's range is cut into `count` equal parts, and each part is used
    once, so that a single range is walked evenly. Raises ConfigError for a range without a count.
    """
    if count is None:
        if ranges := [name for name, each in space.items() if isinstance(each, Range)]:
            raise ConfigError(f"'{ranges[0]}' is a range: say how many trials, --num-trials 32.")
        grids = [each.values for each in space.values() if isinstance(each, Choices)]
        return [dict(zip(space, values, strict=True)) for values in itertools.product(*grids)]
    random = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    for name, each in space.items():
        ends = isinstance(each, Range) and len(space) == 1 and count > 1
        shares = np.arange(count) / (count - 1) if ends else (np.arange(count) + 0.5) / count
        columns[name] = shares if len(space) == 1 else random.permutation(shares)
    at = lambda name, i: space[name].at(float(columns[name][i]))
    return [{name: at(name, i) for name in space} for i in range(count)]
