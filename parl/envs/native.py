"""Translates between an environment's own observations and actions and the networks' arrays.

Everything needed is data in the EnvSpec, so a policy can be used without its environment.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from parl.core.actions import ActionMap, choice_map, number_map
from parl.core.errors import ParlError, SpaceError
from parl.core.finite import find_not_finite
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete, Space, flat_size

MASK = "action_mask"  # entry of `info`


class Seen(NamedTuple):
    """Observations in the networks' form."""

    obs: Any  # [B, *O]
    single: bool  # one observation was given, not a batch
    asked: Any = None  # names of the agents to act, if there are several


class Translator(Protocol):
    """Converts observations and actions between the environment's form and the networks'."""

    def observe(self, obs: Any, info: Any = None, agent: Any = None) -> Seen:
        """Converts one observation of the environment or a batch.

        Raises SpaceError for what is no observation of it, or has NaN or infinity.
        """
        ...

    def answer(self, action: np.ndarray, seen: Seen) -> Any:
        """The environment's actions for a network's actions [B, ...]."""
        ...

    def actions(self, taken: Any) -> np.ndarray:
        """A batch of the environment's actions as the network's [B, ...]. Raises SpaceError."""
        ...


def translator(spec: EnvSpec) -> Translator:
    """The translator for an environment."""
    if spec.native is not None and "agents" in spec.native:
        from parl.envs.native_team import Several  # only now: it loads Gymnasium

        return Several(spec)
    return Alone(spec)


class Alone:
    """The translator for one agent, or for several as arrays [N, ...]."""

    def __init__(self, spec: EnvSpec):
        self.spec, self.map = spec, spec.action_map or own_map(spec.action_space)
        self.space: Any = spec.observation_space
        self.stack: Callable[[Sequence[Any]], Any] = stacker(self.space)
        self.informed = False
        if spec.native is not None:
            from parl.envs.adapters.gymnasium_interface import (
                observer,  # only now: it loads Gymnasium
            )
            from parl.envs.adapters.gymnasium_json import space_of

            self.space = space_of(spec.native["observation"])
            self.informed = bool(spec.native["informed"])
            _, self.stack = observer(self.space, spec.action_space, self.informed)

    def observe(self, obs: Any, info: Any = None, agent: Any = None) -> Seen:
        if agent is not None:
            raise SpaceError(f"{self.spec.id} has one agent, so there is no agent {agent!r}.")
        try:
            values, single = as_values(self.space, obs)
            infos = [info] if single else [None] if info is None else info
            seen = self.stack(values)
            if self.informed:
                seen["legal"] = self.masks(infos, len(values))
            self.check_legal(seen)
        except ParlError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise SpaceError(f"not an observation of {self.spec.id}: {error}.") from error
        check_finite(seen, f"for {self.spec.id}")
        return Seen(seen, single)

    def masks(self, infos: Any, count: int) -> np.ndarray:
        """Masks [B, A] bool, from a list of infos or a dict of arrays."""
        from parl.envs.adapters.gymnasium_masks import stack_masks

        given = infos[MASK] if isinstance(infos, Mapping) else [(x or {}).get(MASK) for x in infos]
        if len(given) != count or any(mask is None for mask in given):
            raise SpaceError(
                f"{self.spec.id} tells which actions are legal in info['{MASK}']: give its info "
                "beside the observation; to learn, use parl.train."
            )
        return stack_masks(given, flat_size(self.spec.action_space))

    def check_legal(self, seen: Any) -> None:
        """Raises ValueError if a mask leaves no legal action."""
        if not self.spec.has_mask or self.spec.num_agents is not None:
            return
        space = self.spec.action_space
        counts = space.nvec if isinstance(space, MultiDiscrete) else (0,)
        starts = np.cumsum((0, *counts[:-1]))
        if not np.logical_or.reduceat(seen["legal"], starts, axis=1).all():
            raise ValueError("its mask leaves no legal action")

    def answer(self, action: np.ndarray, seen: Seen) -> Any:
        lead = (len(action), *self.spec.agent_shape)
        count = math.prod(lead)
        taken = self.map(action.reshape(count, -1) if action.ndim > len(lead) else action.ravel())
        taken = taken.reshape(*lead, *self.map.shape)
        if not seen.single:
            return taken
        return taken[0] if taken.ndim > 1 or self.map.choices else taken[0, ...]

    def actions(self, taken: Any) -> np.ndarray:
        lead = (len(taken), *self.spec.agent_shape)
        try:
            taken = np.asarray(taken)
            flat = self.map.back(taken.reshape(-1, *taken.shape[len(lead) :]))
        except (TypeError, ValueError) as error:
            raise SpaceError(f"not actions of {self.spec.id}: {error}.") from error
        return flat.reshape(*lead, *self.spec.action_space.shape)  # pyright: ignore


def own_map(space: Space) -> ActionMap:
    """The action map to a space of PARL, with the bounds of the environment."""
    match space:
        case Box():
            return number_map(space.low, space.high, space.shape, space.dtype)[1]
        case Discrete():
            return choice_map(0, space.n, (), np.int64)
        case MultiDiscrete():
            return choice_map(0, space.nvec, space.shape, np.int64)
    raise SpaceError(f"{space} is not supported as an action space.")


def parts_of(space: Any) -> dict[Any, Any] | None:
    """The parts of a dict or tuple space, PARL's or Gymnasium's, by key; None for a leaf."""
    if isinstance(space, dict):
        return space
    inner = getattr(space, "spaces", None)
    return dict(enumerate(inner)) if isinstance(inner, tuple) else inner and dict(inner)


def as_values(space: Any, obs: Any) -> tuple[Sequence[Any], bool]:
    """(one value for each of B observations, whether one observation was given).

    A batch is an array [B, *O], a dict or tuple of such arrays, or a list of observations. Raises
    ValueError for anything else.
    """
    parts = parts_of(space)
    if parts is None:
        array, shape = numbers(obs), space.shape or ()
        if array.shape == shape:
            return [array], True
        if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
            return nonempty(array), False
        raise ValueError(f"its shape is {array.shape} instead of {shape}, or {('B', *shape)}")
    if is_batch(obs, parts):
        return nonempty(obs), False
    if isinstance(obs, Mapping):
        lost = [str(key) for key in parts if key not in obs]
    else:
        lost = [] if isinstance(obs, tuple | list) and len(obs) == len(parts) else map(str, parts)
    if lost := list(lost):
        raise ValueError(f"it lacks {', '.join(lost)}" if parts else "it has no parts")
    inner = {key: as_values(part, obs[key]) for key, part in parts.items()}
    sizes = {(len(values), single) for values, single in inner.values()}
    if len(sizes) != 1:
        raise ValueError("its parts are not all of one observation, or of one batch")
    ((size, single),) = sizes
    return [{key: values[i] for key, (values, _) in inner.items()} for i in range(size)], single


def is_batch(obs: Any, parts: Mapping[Any, Any]) -> bool:
    """Whether this is a list of observations that are dicts, or tuples, of these parts."""
    if not isinstance(obs, list):
        return False
    is_tuple = lambda x: isinstance(x, tuple) and len(x) == len(parts)
    return all(isinstance(x, Mapping) or is_tuple(x) for x in obs)


def nonempty(values: Any) -> Any:
    """The batch. Raises ValueError if it is empty."""
    if not len(values):
        raise ValueError("it is a batch of 0 observations")
    return values


def numbers(value: Any) -> np.ndarray:
    """The value as an array of numbers. Raises ValueError."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{value!r:.60} are not numbers")
    return array


def stacker(space: Space) -> Callable[[Sequence[Any]], Any]:
    """A function from B observations in a space of PARL to arrays [B, *O]."""
    if isinstance(space, dict):
        parts = {name: stacker(part) for name, part in space.items()}
        return lambda values: {n: part([v[n] for v in values]) for n, part in parts.items()}

    def stack(values: Sequence[Any]) -> np.ndarray:
        array = np.array(values)
        if isinstance(space, Discrete | MultiDiscrete):
            counts = space.n if isinstance(space, Discrete) else np.array(space.nvec)
            if ((array < 0) | (array >= counts) | (array != np.floor(array))).any():
                raise ValueError(f"{array.tolist()!r:.60} is not in {space}")
        return array.astype(space.dtype)

    return stack


def check_finite(tree: Any, whose: str) -> None:
    """Raises SpaceError if there is NaN or infinity."""
    if found := find_not_finite(tree):
        raise SpaceError(f"the observation {whose} has {found.kind}: nothing can be decided by it.")
