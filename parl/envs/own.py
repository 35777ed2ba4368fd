"""The user's own environments: what they are called, and how a name finds them again."""

import functools
from typing import Any

import gymnasium

from parl.core import loading
from parl.core.errors import ConfigError, EnvError
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


def with_arguments(env: Any, arguments: dict[str, Any], id: str) -> Any:
    """What makes an environment, given arguments. Raises ConfigError where it makes none."""
    if not arguments:
        return env
    if not callable(env):
        raise ConfigError(f"{id}: this environment is made already, so it takes no arguments.")
    return functools.partial(env, **arguments)


def made_if_pure(env: Any) -> Any:
    """A pure JAX environment of a class that makes one, perhaps with arguments; others as they are.

    Raises EnvError where the class does not take the arguments.
    """
    kind = env.func if isinstance(env, functools.partial) else env
    if not isinstance(kind, type) or issubclass(kind, gymnasium.Env):
        return env
    if not all(hasattr(kind, name) for name in ("reset", "step", "spec")):
        return env
    try:
        return env()
    except (TypeError, ValueError) as error:
        raise EnvError(f"{kind.__qualname__} could not be made: {error}") from error


def is_pure(env: Any) -> bool:
    """Whether this is a pure JAX environment."""
    return not isinstance(env, type) and isinstance(getattr(env, "spec", None), EnvSpec)
