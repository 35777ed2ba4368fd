"""Converts a spec to JSON and back, so that a stored policy knows its environment's spaces."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parl.core.actions import ActionMap, uniform
from parl.core.errors import ConfigError
from parl.core.numbers import from_json, to_json
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete, Space


@dataclass(frozen=True)
class ExactSpec:
    """A spec that equals another one where their spaces and agents do, with all bounds."""

    text: str
    spec: EnvSpec = field(compare=False)


def exact(spec: EnvSpec) -> ExactSpec:
    """A spec as what programs are made from."""
    told = spec_to_json(spec)
    shown = {name: told[name] for name in ("observation_space", "action_space", "num_agents")}
    groups = {"groups": spec.groups, "action_sizes": spec.action_sizes}
    return ExactSpec(json.dumps(shown | groups, sort_keys=True), spec)


def spec_to_json(spec: EnvSpec) -> dict[str, Any]:
    """The form that `spec_from_json` reads."""
    return {
        "id": spec.id,
        "observation_space": space_to_json(spec.observation_space),
        "action_space": space_to_json(spec.action_space),
        "max_steps": spec.max_steps,
        "num_agents": spec.num_agents,
        "agents": list(spec.agents),
        "groups": list(spec.groups),
        "action_sizes": list(spec.action_sizes),
        "action_map": spec.action_map and spec.action_map.to_json(),
        "native": spec.native,
    }


def spec_from_json(values: Any, where: Any) -> EnvSpec:
    """The spec that `spec_to_json` wrote. Otherwise raises ConfigError, which names `where`."""
    try:
        mapped = values["action_map"]
        return EnvSpec(
            id=str(values["id"]),
            observation_space=space_from_json(values["observation_space"]),
            action_space=space_from_json(values["action_space"]),
            max_steps=None if values["max_steps"] is None else int(values["max_steps"]),
            num_agents=None if values["num_agents"] is None else int(values["num_agents"]),
            agents=tuple(map(str, values["agents"])),
            groups=tuple(map(int, values["groups"])),
            action_sizes=tuple(map(int, values.get("action_sizes", ()))),
            action_map=None if mapped is None else ActionMap.from_json(mapped),
            native=values["native"],
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"{where} does not hold the spaces of an environment: {type(error).__name__} {error}."
        ) from error


def space_to_json(space: Space) -> dict[str, Any]:
    """The form that `space_from_json` reads."""
    match space:
        case Box():
            bounds = {"low": to_json(space.low), "high": to_json(space.high)}
            return {"type": "Box", "shape": list(space.shape), "dtype": space.dtype} | bounds
        case Discrete():
            return {"type": "Discrete", "n": space.n, "dtype": space.dtype}
        case MultiDiscrete():
            return {"type": "MultiDiscrete", "nvec": list(space.nvec), "dtype": space.dtype}
    return {"type": "Dict", "parts": {name: space_to_json(part) for name, part in space.items()}}


def space_from_json(values: dict[str, Any]) -> Space:
    """Inverse of `space_to_json`. Raises KeyError, TypeError or ValueError for anything else."""
    match values["type"]:
        case "Box":
            shape, dtype = tuple(map(int, values["shape"])), np.dtype(values["dtype"]).name
            low, high = (from_json(values[name], shape, float) for name in ("low", "high"))
            return Box(shape, dtype, uniform(low), uniform(high))
        case "Discrete":
            return Discrete(int(values["n"]), np.dtype(values["dtype"]).name)
        case "MultiDiscrete":
            return MultiDiscrete(tuple(map(int, values["nvec"])), np.dtype(values["dtype"]).name)
        case "Dict":
            return {name: space_from_json(part) for name, part in values["parts"].items()}
    raise ValueError(f"'{values['type']}' is not a space")
