"""Recipes around what is the user's own: an algorithm with its networks, or a learner.

The networks and hyperparameters are those that it has. How to collect for it is taken from the
recipe of the nearest algorithm of ours, and can be set as with any recipe.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parl.agents.learner import Learner, OffPolicy, OnPolicy
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.settings import kinds
from parl.core.spec import EnvSpec
from parl.recipes.base import OffPolicyRecipe, OnPolicyRecipe, Recipe

PLAIN = (int, float, bool, str, type(None))  # what a flag can say
OPTIONAL = ("encoder",)  # networks that an algorithm can do without
COLLECTING = ("num_envs", "length")
LEARNING = ("batch_size", "updates", "warmup", "capacity")


class Own(Recipe):
    """What both kinds share: settings are what a flag can say."""

    def types(self) -> dict[str, Any]:
        return {name: kind for name, kind in super().types().items() if is_plain(kind)}


@dataclass(frozen=True)
class OwnOnPolicy(Own, OnPolicyRecipe):
    """An algorithm of your own that learns from each rollout once."""

    num_envs: int = 8
    length: int = 32

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        return self.on_policy(self.algorithm)


@dataclass(frozen=True)
class OwnOffPolicy(Own, OffPolicyRecipe):
    """An algorithm of your own that learns from a replay; its own replay, where it brings one."""

    replay: Any = None

    def types(self) -> dict[str, Any]:
        of_replay = ("capacity", "replay_on_host", "n_step", "priority")
        hidden = ("replay", *of_replay) if self.replay is not None else ("replay",)
        return {name: kind for name, kind in super().types().items() if name not in hidden}

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        learner = self.off_policy(self.algorithm)
        return learner if self.replay is None else learner.replace(replay=self.replay)


def is_plain(kind: Any) -> bool:
    """Whether a setting of this type is a number, a switch, a word, or a tuple of them."""
    parts = typing.get_args(kind)
    return kind in PLAIN or (bool(parts) and all(is_plain(x) for x in parts if x is not Ellipsis))


def recipe_around(own: Algorithm | Learner, spec: EnvSpec, known: Mapping[str, Any]) -> Recipe:
    """The recipe of an algorithm or learner of the user's own, for an environment.

    `known` are the recipes of ours, by name. Raises ConfigError where a network is missing.
    """
    algorithm = own if isinstance(own, Algorithm) else own.algorithm
    check_networks(algorithm)
    if isinstance(own, OffPolicy):
        return OwnOffPolicy(
            algorithm,
            length=own.updates,  # one update for each step of the environment
            batch_size=own.batch_size,
            updates=own.updates,
            warmup=own.warmup,
            replay=own.replay,
        )
    near = nearest_recipe(type(algorithm), spec, known)
    if near is None:
        return OwnOnPolicy(algorithm)
    shared = {name: getattr(near, name) for name in COLLECTING}
    if isinstance(near, OffPolicyRecipe) and not isinstance(own, OnPolicy):
        return OwnOffPolicy(algorithm, **shared, **{name: getattr(near, name) for name in LEARNING})
    return OwnOnPolicy(algorithm, **shared)


def nearest_recipe(kind: type, spec: EnvSpec, known: Mapping[str, Any]) -> Recipe | None:
    """The recipe of the closest of an algorithm's bases, with its settings for an environment."""
    by_class: dict[type, type[Recipe]] = {}
    for recipe in known.values():
        default = next(f.default for f in dataclasses.fields(recipe) if f.name == "algorithm")
        by_class.setdefault(type(default), recipe)
    for base in kind.__mro__:
        recipe = by_class.get(base)
        if recipe is None or recipe.multi_agent != bool(spec.num_agents):
            continue
        return recipe.for_env(spec) if isinstance(spec.action_space, recipe.serves) else None
    return None


def check_networks(algorithm: Algorithm) -> None:
    """Raises ConfigError where an algorithm lacks a network."""
    for name, kind in kinds(type(algorithm)).items():
        if kind is Model and name not in OPTIONAL and getattr(algorithm, name) is None:
            own = type(algorithm).__name__
            raise ConfigError(f"{own} has no network '{name}': make it with {own}({name}=...).")
