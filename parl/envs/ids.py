"""Environment ids: their arguments, their modules, and errors for missing packages."""

import importlib
import re
import urllib.parse
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from parl.core.errors import ConfigError, EnvError, MissingPackage
from parl.core.settings import brief
from parl.core.yaml_text import parse_yaml

MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# Packages that known environments need, by module. No other package is suggested: a missing module
# may be the user's own, and a package of that name on PyPI may be unrelated.
PIP = {
    "ale_py": "ale-py",
    "Box2D": "'gymnasium[box2d]'",
    "chess": "chess",
    "cv2": "opencv-python",
    "gymnasium_robotics": "gymnasium-robotics 'mujoco<3.6'",
    "highway_env": "highway-env",
    "lbforaging": "lbforaging",
    "magent2": "magent2",
    "minigrid": "minigrid",
    "mpe2": "mpe2",
    "mujoco": "mujoco",
    "multi_agent_ale_py": "multi-agent-ale-py",
    "pettingzoo": "pettingzoo",
    "pygame": "pygame",
    "pymunk": "pymunk",
    "rlcard": "rlcard",
    "rware": "rware",
    "scipy": "scipy",
    "shimmy": "shimmy",
    "supersuit": "supersuit",
    "torch": "torch",
}
ATARI = re.compile(r"(?:ALE/)?([A-Z]\w*?)(?:NoFrameskip|Deterministic)?-v\d+")


def split(id: str) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of an id such as 'FrozenLake-v1?is_slippery=False&map_name=8x8'.

    Values are parsed as YAML; %26 and %25 encode & and %. Raises EnvError.
    """
    name, _, query = id.partition("?")
    found: dict[str, Any] = {}
    for part in query.split("&") if query else ():
        key, equals, text = part.partition("=")
        if not (key.isidentifier() and equals) or key in found:
            raise EnvError(
                f"'{id}' has the argument '{part}'; arguments are name=value, with & between them, "
                "each name once."
            )
        found[key] = value_of(urllib.parse.unquote(text))
    return name, found


def apart(id: str) -> tuple[str, str]:
    """(interpreter, the environment's own id) of an id; the interpreter is empty if it is ours."""
    if not id.startswith("venv:"):
        return "", id
    path, _, name = id.removeprefix("venv:").partition("!")
    return path, name


def value_of(text: str) -> Any:
    """The YAML value of a text, or the text itself if it is not valid YAML."""
    try:
        return parse_yaml(text)
    except ConfigError:
        return text


def with_arguments(id: str, arguments: Iterable[str]) -> str:
    """An id with more arguments, each 'name=value'. Raises EnvError."""
    quoted = [part.replace("%", "%25").replace("&", "%26") for part in arguments]
    whole = "&".join([id, *quoted]) if "?" in id else "?".join([id, "&".join(quoted)])
    if not quoted:
        return id
    split(whole)  # raises
    return whole


def import_module(path: str, id: str) -> ModuleType:
    """The module that an environment's id names. Raises EnvError or MissingPackage."""
    if not MODULE.fullmatch(path):
        raise EnvError(f"'{id}' names the module '{path}', which cannot be the name of one.")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise missing(id, error) from error
    except Exception as error:
        said = f"{type(error).__name__}: {brief(str(error))}"
        raise EnvError(f"{id}: the module '{path}' could not be imported: {said}") from error


def missing(id: str, error: Exception) -> MissingPackage:
    """The error for an environment whose module or package is missing."""
    commands = re.findall(r"`(pip install [^`]+)`", str(error))  # from Gymnasium's message
    module = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    package = module.partition(".")[0]
    if not commands and package in PIP:
        commands = [f"pip install {PIP[package]}"]
    if commands:
        command = " && ".join(commands).replace('"', "'")
        return MissingPackage(f"{id} needs a package that is not installed: {command}")
    if module and f"{id.rpartition(':')[0]}.".startswith(f"{module}."):
        return MissingPackage(
            f"{id}: there is no module '{module}' here; run the command in its folder, or install "
            "its package."
        )
    if module:
        return MissingPackage(f"{id} needs the module '{module}', which is not there.")
    return MissingPackage(f"{id} needs a package that is not installed: {error}")


def atari_hint(name: str) -> str:
    """A hint with PARL's id for another library's Atari id, or an empty string."""
    found = ATARI.fullmatch(name)
    is_one = found and ("NoFrameskip" in name or "Deterministic" in name or name.startswith("ALE/"))
    return f" Use ale:{found[1]}, as the literature preprocesses it." if found and is_one else ""
