"""Finds a user's class or function by a name such as my_lab.sac:MySAC.

The name is `module:attribute`, as in Gymnasium's ids. The module is imported in the usual way: it
must be installed or lie in the working directory. Nothing is imported from a run directory.
"""

import importlib
import re
from typing import Any

from parl.core.errors import ConfigError, ParlError, nearest

OBJECT = "()"  # ends the name of an object that cannot be found again by it
PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_path(name: str) -> bool:
    """Whether a name has the form module:attribute."""
    return PATH.fullmatch(name) is not None


def load(name: str) -> Any:
    """The object that `module:attribute` names. Raises ConfigError if it does not exist."""
    if not is_path(name):
        raise ConfigError(f"'{name}' is not a name of the form module:attribute.")
    path, _, attributes = name.partition(":")
    try:
        found: Any = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"'{name}' needs the module '{error.name}', which is not installed."
            ) from error
        raise ConfigError(
            f"'{name}': there is no module '{error.name}' here; run the command in its folder, "
            "or install its package."
        ) from error
    except ParlError:
        raise
    except Exception as error:
        raise ConfigError(
            f"'{name}': the module '{path}' raised {type(error).__name__} on import: {error}"
        ) from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            public = [known for known in vars(found) if not known.startswith("_")]
            hint = nearest(attribute, public)
            raise ConfigError(f"'{name}': '{path}' has no '{attribute}'.{hint}")
        found = getattr(found, attribute)
    return found


def name_of(thing: Any) -> str | None:
    """`module:attribute` of a class or function; None if `load` would not find it by that name.

    Such objects are lambdas and those defined inside a function or in the script being run.
    """
    module, attribute = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module in (None, "__main__", "builtins") or attribute is None:
        return None
    name = f"{module}:{attribute}"
    try:
        return name if is_path(name) and load(name) is thing else None
    except ConfigError:
        return None


def called(thing: Any) -> str:
    """What a run calls a thing of the user's own, or one that is named already.

    The name that finds it again, else its own or its class's with () behind.
    """
    if isinstance(thing, str):
        return thing
    name = getattr(thing, "__name__", type(thing).__name__)
    return name_of(thing) or name + OBJECT
