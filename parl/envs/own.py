"""The user's own environments: what they are called, and how a name finds them again."""

import functools
from typing import Any

import gymnasium

from parl.core import loading
from parl.core.errors import ConfigError
from parl.core.spec import EnvSpec


def name_of(env: Any) -> str:
    """What a class, a function or an object is called that makes environments or is one.

    'module:attribute' where that finds it again, else its own name; a partial has that of its
    function. Empty for a lambda, which is called as what it makes.
    """
    if found := loading.name_of(env):
        return found
    while isinstance(env, functools.partial):
        env = env.func
    name = getattr(env, "__qualname__", type(env).__name__).rpartition(".")[2]
    return "" if name == "<lambda>" else name


def named(name: str) -> Any:
    """The class, function or object that 'module:attribute' names; None for an id of Gymnasium.

    Raises ConfigError for a name that is neither.
    """
    if not loading.is_path(name):
        return None
    try:
        return loading.load(name)
    except ConfigError:
        if name.partition(":")[2] in gymnasium.registry:  # the module has registered it
            return None
        raise


def made_if_pure(env: Any) -> Any:
    """A pure JAX environment of a class that makes one without arguments; others as they are."""
    if not isinstance(env, type) or issubclass(env, gymnasium.Env):
        return env
    is_pure = all(hasattr(env, name) for name in ("reset", "step", "spec"))
    return env() if is_pure else env


def is_pure(env: Any) -> bool:
    """Whether this is a pure JAX environment."""
    return not isinstance(env, type) and isinstance(getattr(env, "spec", None), EnvSpec)
