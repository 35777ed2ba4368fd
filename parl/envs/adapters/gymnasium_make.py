"""Makers of Gymnasium environments from registered ids, and what wraps those of several agents."""

import dataclasses
import functools
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import gymnasium
from gymnasium import error as gymnasium_error
from gymnasium import spaces
from gymnasium.envs import registration

from parl.core.errors import EnvError, nearest
from parl.envs.adapters.gymnasium_team import Team, TupleTeam
from parl.envs.ids import atari_hint, import_module, missing
from parl.envs.team import is_pettingzoo

# Packages that register a namespace, or a family, of ids only when they are imported.
_NAMESPACES = {"ALE": "ale_py"}
_FAMILIES = {"Foraging": "lbforaging", "rware": "rware"}
_ROBOTICS = re.compile(
    r"(Fetch(Reach|Push|Slide|PickAndPlace)|Hand(Reach|Manipulate)|(Point|Ant)Maze_|AdroitHand|Franka)"
)


def make_gymnasium(id: str, /, **kwargs: Any) -> Callable[[], gymnasium.Env]:
    """A maker of the registered environment `id`; keyword arguments go to `gymnasium.make`.

    An unknown id raises here, a missing package here or when the maker is first called. The
    checks that Gymnasium wraps around every step are left out: the vector environment has its own.
    """
    _resolve(id)
    return functools.partial(_make, id, kwargs)


def _make(id: str, kwargs: dict[str, Any]) -> gymnasium.Env:
    spec = dataclasses.replace(_resolve(id), order_enforce=False)
    try:
        with _remarks_logged(spec):
            return gymnasium.make(spec, disable_env_checker=True, **kwargs)
    except (gymnasium_error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise missing(id, error) from error
    except Exception as error:
        raise EnvError(f"{id} could not be made: {type(error).__name__}: {error}") from error


def _remarks_logged(spec: registration.EnvSpec) -> AbstractContextManager[None]:
    """Logs MuJoCo's warnings for its environments; MuJoCo is imported for these only."""
    if "mujoco" not in str(spec.entry_point):
        return nullcontext()
    from parl.envs.adapters.mujoco_log import remarks_logged

    return remarks_logged()


def _resolve(id: str) -> registration.EnvSpec:
    """The registered spec of an id: 'Name-v0', 'Namespace/Name-v0' or 'module:Name-v0'."""
    module, _, name = id.rpartition(":")
    namespace = name.partition("/")[0] if "/" in name else ""
    family = re.split("[-_]", name)[0]
    if id.startswith(":"):
        import_module(module, id)  # raises
    packages = [module, _NAMESPACES.get(namespace), _FAMILIES.get(family)]
    if name not in gymnasium.registry and _ROBOTICS.match(name):
        packages.append("gymnasium_robotics")
    for package in packages:
        if package:
            import_module(package, id)
    try:
        return gymnasium.spec(name)
    except gymnasium_error.Error as error:
        hint = atari_hint(name) or nearest(name, gymnasium.registry)
        raise EnvError(f"unknown environment '{id}'.{hint}") from error


def adapted(env: Any) -> gymnasium.Env:
    """An environment of several agents, PettingZoo's or one of tuples, as a Team; others as is."""
    if isinstance(env, gymnasium.Env):
        actions = getattr(env, "action_space", None)
        if isinstance(env.unwrapped, Team) or not isinstance(actions, spaces.Tuple):
            return env
        return TupleTeam(env)
    if is_pettingzoo(env):
        from parl.envs.adapters.pettingzoo import as_team  # loaded already

        return as_team(env)
    return env
