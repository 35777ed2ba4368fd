"""The user's own environments: their names, and finding them by name."""

import functools
from typing import Any

import gymnasium

from parl.core import loading
from parl.core.errors import ConfigError, EnvError
from parl.core.spec import EnvSpec


def name_of(env: Any) -> str:
    """The name of an environment, or of a class or function that makes one.

    It is 'module:attribute' if that finds it again, else its own name; a partial has the name of
    its function. It is empty for a lambda, which is named after what it makes.
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
    """A maker with these arguments. Raises ConfigError if it is not callable."""
    if not arguments:
        return env
    if not callable(env):
        raise ConfigError(f"{id}: this environment is made already, so it takes no arguments.")
    return functools.partial(env, **arguments)


def made_if_pure(env: Any) -> Any:
    """Instantiates the class of a pure JAX environment; anything else is returned unchanged.

    Raises EnvError if the class does not accept the arguments.
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
