"""Families of environments by prefix: built-in ones, and those of installed packages.

A package adds one by an entry point of the group `parl.suites`: its name is the prefix without the
colon, its value `module:function`. The function gets the name behind the prefix and the id's
arguments, `make(name, **arguments)`, and returns what `env` may be in `parl.train`: an object with
pure `spec`, `reset` and `step`, or a function that makes an environment.
"""

import importlib.metadata
import importlib.util
from typing import Any, NamedTuple

from parl.core.errors import ConfigError, EnvError, MissingPackage, ParlError, told
from parl.core.loading import load

GROUP = "parl.suites"
INTERPRETER = "venv:"  # the prefix of environments that another interpreter steps


class Suite(NamedTuple):
    """A family of environments behind one prefix."""

    prefix: str  # with its colon; empty for ids of Gymnasium
    title: str
    module: str  # what must be importable
    pip: str  # what to install
    make: str = ""  # module:function of a name and arguments; empty where factory.py makes it
    ours: bool = True  # whether it comes with PARL; else the title is the package's name


SUITES = [
    Suite("", "Gymnasium", "gymnasium", "gymnasium"),
    Suite("", "Level-based foraging", "lbforaging", "lbforaging"),
    Suite("", "Multi-robot warehouse", "rware", "rware"),
    Suite(
        "",
        "Gymnasium-Robotics, with goals",
        "gymnasium_robotics",
        "gymnasium-robotics 'mujoco<3.6'",
    ),
    Suite("jax:", "built-in, pure JAX", "jax", "jax", "parl.envs.builtin:make_builtin"),
    Suite(
        "pz:",
        "PettingZoo",
        "pettingzoo",
        "pettingzoo",
        "parl.envs.adapters.pettingzoo:make_pettingzoo",
    ),
    Suite(
        "ale:",
        "Atari",
        "ale_py",
        "ale-py opencv-python-headless",
        "parl.envs.adapters.atari:make_atari",
    ),
    Suite(
        "dmc:",
        "DeepMind Control",
        "dm_control",
        "dm_control 'mujoco<4'",
        "parl.envs.adapters.control_suite:make_dm_control",
    ),
    Suite("brax:", "Brax", "brax", "brax", "parl.envs.adapters.brax_suite:Brax"),
    Suite("jaxmarl:", "JaxMARL", "jaxmarl", "jaxmarl", "parl.envs.adapters.jaxmarl_suite:JaxMarl"),
    Suite(
        "gymnax:",
        "gymnax, with MinAtar and bsuite",
        "gymnax",
        "'gymnax>=1'",
        "parl.envs.adapters.gymnax_suite:Gymnax",
    ),
    Suite(
        "pgx:", "Pgx, board and card games", "pgx", "pgx", "parl.envs.adapters.pgx_suite:make_pgx"
    ),
    Suite("jumanji:", "Jumanji", "jumanji", "jumanji", "parl.envs.adapters.jumanji_suite:Jumanji"),
    Suite(
        "navix:", "NAVIX, MiniGrid in JAX", "navix", "navix", "parl.envs.adapters.navix_suite:Navix"
    ),
    Suite(
        INTERPRETER,
        "Gymnasium of another interpreter, venv:/path/to/python!id",
        "gymnasium",
        "gymnasium",
    ),
    Suite(
        "ogbench:",
        "OGBench, mazes and manipulation with goals",
        "ogbench",
        "ogbench 'mujoco<4'",
        "parl.envs.adapters.ogbench_suite:make_ogbench",
    ),
    Suite("craftax:", "Craftax", "craftax", "craftax", "parl.envs.adapters.craftax_suite:Craftax"),
]


def brought() -> list[Suite]:
    """The suites of installed packages, in the order of their prefixes."""
    found = []
    for point in importlib.metadata.entry_points(group=GROUP):
        package = point.dist.name if point.dist else point.module
        found.append(Suite(f"{point.name}:", package, point.module, package, point.value, False))
    return sorted(found)


def suite_of(id: str) -> Suite | None:
    """The suite whose prefix an id has, ours before others; None where there is none.

    Raises ConfigError where several packages bring that prefix.
    """
    prefix, colon, _ = id.partition(":")
    if not colon:
        return None
    ours = [suite for suite in SUITES if suite.prefix == prefix + colon]
    others = [] if ours else [suite for suite in brought() if suite.prefix == prefix + colon]
    if len(others) > 1:
        names = " and ".join(suite.title for suite in others)
        raise ConfigError(f"{id}: {names} both bring the prefix '{prefix}:'; uninstall one.")
    return (ours or others or [None])[0]


def is_installed(suite: Suite) -> bool:
    """Whether what a suite needs can be imported."""
    return importlib.util.find_spec(suite.module.partition(".")[0]) is not None


def made(suite: Suite, id: str, name: str, arguments: dict[str, Any]) -> Any:
    """What a suite makes of a name. Raises MissingPackage, ConfigError or EnvError."""
    if not is_installed(suite):
        raise MissingPackage(
            f"{id} needs {suite.title}, which is not installed: pip install {suite.pip}"
        )
    make = load(suite.make)
    try:
        return make(name, **arguments)
    except ParlError:
        raise
    except Exception as error:
        raise EnvError(f"{id} could not be made: {told(error)}") from error
