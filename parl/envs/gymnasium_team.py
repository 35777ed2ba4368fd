"""Several agents as one Gymnasium environment, so that one vector environment serves them all.

A Team observes a dict of arrays [N, ...] as its spec says, takes actions [N, ...] and gives rewards
[N]. Its agents may differ, die, appear late or take turns; views and actions are padded.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from parl.core.errors import EnvError, SpaceError
from parl.core.spec import Box, Discrete, is_bytes
from parl.envs.gymnasium_masks import stack_masks
from parl.envs.gymnasium_spaces import convert_actions, convert_space, stacker
from parl.envs.team import only_first, own_actions, team_spec

MASK = "action_mask"


class Seat(NamedTuple):
    """How one agent's observations and actions are translated."""

    size: int  # numbers in its view
    view: Callable[[Any], np.ndarray]  # its observation to [size] float32
    action: Discrete | Box  # its own action space, a vector if not discrete
    decode: Callable[[np.ndarray], Any]  # its padded action to its own


class Team(gymnasium.Env):
    """A game of named agents with Gymnasium spaces; subclasses play it.

    `state_size` is the size of what `global_state` returns; None: the state is all views.
    """

    def __init__(
        self,
        id: str,
        names: Sequence[Any],
        observation_spaces: Sequence[spaces.Space],
        action_spaces: Sequence[spaces.Space],
        state_size: int | None = None,
        turns: bool = False,
        max_steps: int | None = None,
    ):
        roles = list(zip(observation_spaces, action_spaces, strict=True))
        self.roles = roles  # (observation space, action space) of each agent
        self.seats = [seat(id, *role) for role in roles]
        self.names = list(names)
        self.index = {name: i for i, name in enumerate(names)}
        self.own_state = state_size is not None
        actions = [one.action for one in self.seats]
        sizes = [one.size for one in self.seats]
        state = sum(sizes) if state_size is None else state_size
        agents = [str(name) for name in names]
        self.team = team_spec(
            id, agents, sizes, actions, state, turns=turns, max_steps=max_steps, roles=roles
        )
        self.discrete = isinstance(self.team.action_space, Discrete)
        if isinstance(self.team.action_space, Discrete):
            self.own = own_actions(actions)  # [N, A]
            self.nothing = only_first(self.team.action_space.n)  # [A]
        self.legal: np.ndarray | None = None  # [N, A] what is legal now
        view: Any = self.team.observation_space
        self.view_shape: tuple[int, int] = view["view"].shape
        self.filled = np.arange(self.view_shape[1]) < np.array(sizes)[:, None]  # [N, O]

    def global_state(self) -> np.ndarray:
        """[S]; only where the state is not all views."""
        raise NotImplementedError

    def look(
        self,
        seen: Mapping[Any, Any],
        infos: Mapping[Any, Any],
        alive: np.ndarray,
        turn: np.ndarray | None = None,
        final: bool = False,
    ) -> dict[str, np.ndarray]:
        """The observation, from what agents see and are told, by their names.

        alive [N] bool; turn [N] bool who moves, where one moves at a time; `final` closes an
        episode, so that nobody moves any more.
        """
        view = np.zeros(self.view_shape, np.float32)
        for row, name, seat in zip(view, self.names, self.seats, strict=True):
            if name in seen:
                row[: seat.size] = seat.view(seen[name])
        obs = {"view": view, "alive": alive, "state": self.state_of(view)}
        if turn is not None:
            obs["turn"] = turn
        if self.discrete:
            moving = alive if turn is None or final else alive & turn
            obs["legal"] = self.legal = self.legal_now(seen, infos, moving, final)
        return obs

    def state_of(self, view: np.ndarray) -> np.ndarray:
        """[S] float32."""
        if self.own_state:
            return numbers(self.global_state())
        return view[self.filled]

    def legal_now(
        self, seen: Mapping[Any, Any], infos: Mapping[Any, Any], moving: np.ndarray, final: bool
    ) -> np.ndarray:
        """[N, A] bool: the masks of those who move, only action 0 for all others.

        Raises EnvError where somebody is to move and has no legal action.
        """
        legal = np.where(moving[:, None], self.own, self.nothing)
        for i, (name, moves) in enumerate(zip(self.names, moving.tolist(), strict=True)):
            mask = mask_in(seen.get(name), infos.get(name)) if moves else None
            if mask is None:
                continue
            count = int(self.own[i].sum())
            try:
                mask = legal[i, :count] = stack_masks([mask], count)[0]
            except ValueError as error:
                raise EnvError(
                    f"{self.team.id} gives {name} a mask that is none: {error}."
                ) from error
            if final and not mask.any():
                legal[i] = self.nothing
            elif not mask.any():
                raise EnvError(
                    f"{self.team.id} gives {name}, who is to move, a mask with no legal action: "
                    "an agent that cannot act must be terminated or skipped."
                )
        return legal

    def action_of(self, i: int, action: np.ndarray) -> Any:
        """Agent i's own action from actions [N, ...]; raises EnvError for one that is illegal."""
        if self.legal is not None and not self.legal[i, action[i]]:
            raise EnvError(
                f"{self.team.id}: action {action[i]} of {self.names[i]} is illegal by its "
                'mask, obs["legal"]; draw actions from the legal ones only.'
            )
        return self.seats[i].decode(action[i])


def mask_in(obs: Any, info: Any) -> Any:
    """The mask [A] in an agent's observation or info, if there is one, else None."""
    for source in (obs, info):
        if isinstance(source, dict) and MASK in source:
            return source[MASK]
    return None


def seat(id: str, observation_space: spaces.Space, action_space: spaces.Space) -> Seat:
    """The translators of one agent. Raises SpaceError for spaces without a fixed size.

    `view` raises EnvError for an observation that does not fit its space.
    """
    size, flatten = flattener(observation_space)

    def view(value: Any) -> np.ndarray:
        try:
            return flatten(value)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise EnvError(
                f"{id} returned an observation that does not fit its space: {error}."
            ) from error

    action, action_map = convert_actions(action_space)
    if isinstance(action, Discrete):
        return Seat(size, view, action, lambda a: action_map.split(np.reshape(a, 1))[0])
    if not isinstance(action, Box):
        raise SpaceError(
            f"{id} has agents with {action_space} actions; only Discrete and Box are served."
        )
    count = action.shape[0]
    flat = Box((count,), low=-1.0, high=1.0)
    return Seat(size, view, flat, lambda a: action_map.split(a[None, :count])[0])


def flattener(space: spaces.Space) -> tuple[int, Callable[[Any], np.ndarray]]:
    """(size, function from an observation to [size] float32), masks left out.

    Integers become one-hot vectors, and bytes of 0 .. 255 fractions of 255. The function raises
    ValueError for what does not fit the space, see `stacker`.
    """
    if isinstance(space, spaces.Dict) and MASK in space.spaces:
        rest = {name: part for name, part in space.items() if name != MASK}
        if len(rest) == 1:
            ((only, part),) = rest.items()
            size, inner = flattener(part)
            return size, lambda value: inner(value[only])
        return flattener(spaces.Dict(rest))
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return _flattener_of_parts(space)
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        stack, seen = stacker(space), convert_space(space)
        scale = np.float32(255 if isinstance(seen, Box) and is_bytes(seen) else 1)
        row = lambda value: stack([value]).astype(np.float32, copy=False).reshape(-1)
        return math.prod(space.shape), lambda value: row(value) / scale
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        if not space.is_np_flattenable:
            raise SpaceError(f"{type(space).__name__} observations have no fixed size.")
        return spaces.flatdim(space), lambda value: numbers(spaces.flatten(space, value))
    stack, seen = stacker(space), convert_space(space)
    counts = [seen.n] if isinstance(seen, Discrete) else seen.nvec  # pyright: ignore
    firsts, units = np.cumsum([0, *counts[:-1]]), np.eye(sum(counts), dtype=np.float32)
    return sum(counts), lambda value: units[firsts + stack([value]).reshape(-1)].sum(0)


def _flattener_of_parts(
    space: spaces.Dict | spaces.Tuple,
) -> tuple[int, Callable[[Any], np.ndarray]]:
    named = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
    parts = [(key, *flattener(part)) for key, part in named]

    def flatten(value: Any) -> np.ndarray:
        return np.concatenate([view(value[key]) for key, _, view in parts])

    return sum(size for _, size, _ in parts), flatten


def numbers(array: Any) -> np.ndarray:
    """One vector of float32; of pictures of bytes [H, W, C] as fractions of 255."""
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"it holds {array.dtype}, not numbers")
    row = array.astype(np.float32, copy=False).reshape(-1)
    return row / 255 if array.dtype == np.uint8 and array.ndim == 3 else row


class TupleTeam(Team):
    """A Gymnasium environment whose spaces, observations and rewards are tuples over agents.

    Such as lbforaging's and rware's. These two report their time limits as terminations; here they
    are truncations.
    """

    CUT: ClassVar[dict[str, Callable[[Any], bool]]] = {
        "lbforaging": lambda game: bool(game.field.any()),  # there is food left
        "rware": lambda game: True,  # shelves are asked for without end
    }

    def __init__(self, env: gymnasium.Env):
        self.env, game = env, env.unwrapped
        seen, act = env.observation_space, env.action_space
        id = env.spec.id if env.spec else type(game).__name__
        if (
            not isinstance(seen, spaces.Tuple)
            or not isinstance(act, spaces.Tuple)
            or len({isinstance(space, spaces.Discrete) for space in act.spaces}) > 1
        ):
            raise SpaceError(
                f"{id} has {act} actions. If they are several agents', both spaces have to be a "
                "Tuple over them and all actions of one kind; if they are one agent's, make them "
                "one Box or one MultiDiscrete with gymnasium.wrappers.TransformAction."
            )
        limit = env.spec.max_episode_steps if env.spec else None
        limit = limit or getattr(game, "_max_episode_steps", getattr(game, "max_steps", None))
        names = [f"agent_{i}" for i in range(len(act.spaces))]
        super().__init__(id, names, seen.spaces, act.spaces, max_steps=limit)
        self.cut = self.CUT.get(type(game).__module__.partition(".")[0], lambda game: False)
        self.alive = np.ones(len(names), bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode."""
        values, info = self.env.reset(seed=seed, options=options)
        return self.observed(values), info

    def step(self, action: Any) -> Any:
        """One step of all agents."""
        own = tuple(self.action_of(i, action) for i in range(len(self.seats)))
        values, reward, terminated, truncated, info = self.env.step(own)
        if terminated and self.cut(self.env.unwrapped):
            terminated, truncated = False, True
        reward = np.broadcast_to(np.asarray(reward, np.float32), len(own))
        return self.observed(values), reward, terminated, truncated, info

    def observed(self, values: Any) -> dict[str, np.ndarray]:
        """The observation from one value for each agent."""
        return self.look(dict(zip(self.names, values, strict=True)), {}, self.alive)

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()
