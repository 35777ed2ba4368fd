"""How the agents' side sees a Gymnasium environment: its spec and the translators of batches."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from parl.core.errors import SpaceError
from parl.core.spec import Box, EnvSpec, Space, flat_size, mask_space
from parl.envs.adapters import gymnasium_masks as masks
from parl.envs.adapters.gymnasium_json import describe
from parl.envs.adapters.gymnasium_spaces import convert_actions, convert_space, stacker
from parl.envs.adapters.gymnasium_team import Team, TupleTeam
from parl.envs.goals import found_goals

ALONE = "observation"  # what an observation is called that is no dict, where a mask is beside it


class EnvInterface(NamedTuple):
    """How the agents' side sees an environment, and the functions that translate batches.

    Observations carry the mask `legal` where the environment tells what is legal, see
    gymnasium_masks.py; if `informed`, it is in `info`, and `stack` leaves it out.
    """

    spec: EnvSpec
    stack: Callable[[Sequence[Any]], Any]  # B observations to arrays [B, *O]
    split: Callable[[np.ndarray], Sequence[Any]]  # actions [B, ...] to B actions
    informed: bool = False


def face(env: gymnasium.Env, id: str | None, info: Mapping[str, Any] | None = None) -> EnvInterface:
    """The spec of an environment under the name `id`, and its translators.

    `info` is that of its first reset. Raises SpaceError for spaces that cannot be served.
    """
    if isinstance(env.unwrapped, Team):
        spec = dataclasses.replace(env.unwrapped.team, native=describe_team(env.unwrapped))
        spec = spec if id is None else dataclasses.replace(spec, id=id)
        return EnvInterface(spec, stack_dicts, list)
    action_space, action_map = convert_actions(env.action_space)
    path = masks.find_mask(env.observation_space, action_space)
    informed = path is None and masks.IN_INFO in (info or {}) and not isinstance(action_space, Box)
    seen, stack = observer(env.observation_space, action_space, informed)
    spec = EnvSpec(
        id=id or own_id(env),
        observation_space=seen,
        action_space=action_space,
        max_steps=env.spec.max_episode_steps if env.spec else None,
        action_map=action_map,
        native={"observation": describe(env.observation_space), "informed": informed},
    )
    spec = dataclasses.replace(spec, goals=found_goals(env.unwrapped, spec))
    return EnvInterface(spec, stack, action_map.split, informed)


def observer(
    observation_space: spaces.Space, action_space: Space, informed: bool
) -> tuple[Space, Callable[[Sequence[Any]], Any]]:
    """What networks see of one agent's observations, and the function from B of them to arrays.

    Where it is `informed` of what is legal beside the observation, the function leaves that out.
    """
    path = masks.find_mask(observation_space, action_space)
    if path is not None:
        return with_mask(observation_space, path, flat_size(action_space))
    seen, stack = convert_space(observation_space), stacker(observation_space)
    if not informed:
        return seen, stack
    if not isinstance(seen, dict):
        seen, stack = {ALONE: seen}, named(stack)
    return seen | {"legal": mask_space(action_space)}, stack


def describe_team(team: Team) -> dict[str, Any]:
    """The form of a game and its agents, with their own spaces, as JSON."""
    form = "tuple" if isinstance(team, TupleTeam) else "turns" if team.team.takes_turns else "all"
    agents = [
        {"name": name if isinstance(name, str | int) else str(name)}
        | {"observation": describe(seen), "action": describe(taken)}
        | {"informed": name in team.informed}
        for name, (seen, taken) in zip(team.names, team.roles, strict=True)
    ]
    return {"form": form, "agents": agents}


def with_mask(
    space: spaces.Space, path: masks.Path, size: int
) -> tuple[Space, Callable[[Sequence[Any]], Any]]:
    """The space of observations with their mask at a path, and the function that stacks them."""
    rest = masks.without(space, path)
    if not getattr(rest, "spaces", None):
        raise SpaceError(f"{space} has nothing but a mask: there is nothing to decide by.")
    seen, stack = convert_space(rest), stacker(rest)
    assert isinstance(seen, dict)

    def both(values: Sequence[Any]) -> dict[str, Any]:
        obs = stack(values)
        try:
            own = [masks.at(path, value) for value in values]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"it lacks the mask '{path[-1]}'") from error
        return obs | {"legal": masks.stack_masks(own, size)}

    return seen | {"legal": Box((size,), "bool")}, both


def named(stack: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Any]:
    """A stacker whose observations have a name, so that a mask can stand beside them."""
    return lambda values: {ALONE: stack(values)}


def own_id(env: gymnasium.Env) -> str:
    """The name of an environment that was not given one."""
    return env.spec.id if env.spec else class_name(env)


def class_name(env: gymnasium.Env) -> str:
    """What an environment is, without its wrappers."""
    game = env.unwrapped
    return game.team.id if isinstance(game, Team) else type(game).__name__


def stack_dicts(values: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """B dicts of arrays as one dict of arrays [B, ...]."""
    return {name: np.stack([value[name] for value in values]) for name in values[0]}
