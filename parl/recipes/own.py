"""Recipes for the user's own algorithm with its networks, or a learner.

Networks and hyperparameters are its own. Settings for collection come from the recipe of the
nearest built-in algorithm and can be changed as in any recipe.
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

PLAIN = (int, float, bool, str, type(None))  # types that a flag can hold
OPTIONAL = ("encoder",)  # networks that an algorithm can do without
COLLECTING = ("num_envs", "length")
LEARNING = ("batch_size", "updates", "warmup", "capacity")


class Own(Recipe):
    """Base of both kinds: only settings that a flag can hold."""

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
    """An algorithm of your own that learns from replay; a learner keeps its own replay."""

    replay: Any = None

    def types(self) -> dict[str, Any]:
        of_replay = ("capacity", "replay_on_host", "n_step", "priority", "her", "her_share")
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
    """The recipe for a user's algorithm or learner in an environment.

    `known` holds the built-in recipes by name. Raises ConfigError if a network is missing.
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
    """The recipe of an algorithm's closest base class, with its settings for an environment."""
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


def check_networks(algorithm: Any) -> None:
    """Raises ConfigError if an algorithm, or one that it wraps, lacks a network."""
    if not isinstance(algorithm, Algorithm):
        raise ConfigError(
            f"an agent needs an Algorithm with its networks, or a Learner, not {algorithm!r:.60}; "
            "parl.Agent.make takes the name of one."
        )
    for name, kind in kinds(type(algorithm)).items():
        if kind is Algorithm:
            check_networks(getattr(algorithm, name))
    for name, kind in kinds(type(algorithm)).items():
        if kind is Model and name not in OPTIONAL and getattr(algorithm, name) is None:
            own = type(algorithm).__name__
            raise ConfigError(f"{own} has no network '{name}': make it with {own}({name}=...).")
