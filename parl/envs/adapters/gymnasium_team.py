"""Several agents as one Gymnasium environment, so that one vector environment serves them all.

A Team observes a dict of arrays [N, ...] as its spec says, takes actions [N, ...] and gives rewards
[N]. Its agents may differ, die, be cut short, appear late, wait or take turns; views and actions
are padded.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from parl.core.errors import EnvError, SpaceError
from parl.core.spec import Box, Discrete, is_bytes
from parl.envs.adapters.gymnasium_masks import stack_masks
from parl.envs.adapters.gymnasium_spaces import convert_actions, convert_space, stacker
from parl.envs.team import only_first, own_actions, team_spec

MASK = "action_mask"
# In the info of a step: the observation to act on, where it is not the one that the step led to.
FOLLOWING = "following"
WAIT = (
    "an agent that is to wait needs an action that does nothing, or in PettingZoo leaves `agents`, "
    "without a flag, until it is back."
)


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
        self.informed: set[Any] = set()  # names of those whose masks come in their info
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
        self.alive = np.ones(len(self.names), bool)  # [N] who is in the game, waiting or not
        self.views = np.zeros(self.view_shape, np.float32)  # what each of them saw last
        self.state: np.ndarray | None = None  # what global_state() told last

    def global_state(self) -> np.ndarray:
        """[S]; only where the state is not all views."""
        raise NotImplementedError

    def look(
        self,
        seen: Mapping[Any, Any],
        infos: Mapping[Any, Any],
        alive: np.ndarray,
        moving: np.ndarray,
        ended: np.ndarray,
        turn: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """The observation, from what agents see and are told, by their names.

        [N] bool each: `alive`, agents in the game; `moving`, agents that may act; `ended`, agents
        whose episode is over, which need no legal action; `turn`, the agents to move in turn-based
        games. An agent without a new observation keeps its last one.
        """
        for row, name, seat, here in zip(self.views, self.names, self.seats, alive, strict=True):
            if not here or name not in seen:
                continue
            try:
                row[: seat.size] = seat.view(seen[name])
            except (KeyError, TypeError, ValueError) as error:
                raise EnvError(
                    f"{self.team.id} gave {name} an observation that does not fit its space: "
                    f"{error}."
                ) from error
        view = np.where(alive[:, None], self.views, np.float32(0.0))
        state = self.state_of(view, lost=bool(ended.any()) or not alive.all())
        obs = {"view": view, "alive": alive, "state": state}
        if turn is not None:
            obs["turn"] = turn
        if self.discrete:
            obs["legal"] = self.legal = self.legal_now(seen, infos, moving, ended)
        return obs

    def begin(
        self,
        seen: Mapping[Any, Any],
        infos: Mapping[Any, Any],
        alive: np.ndarray,
        turn: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """The observation that opens an episode of those who are alive [N]; `turn` as in `look`."""
        self.alive = alive
        moving = alive if turn is None else alive & turn
        return self.look(seen, infos, alive, moving, np.zeros_like(alive), turn)

    def answer(
        self,
        seen: Mapping[Any, Any],
        infos: Mapping[Any, Any],
        reward: np.ndarray,
        cut: np.ndarray,
        alive: np.ndarray,
        moving: np.ndarray,
        turn: np.ndarray | None = None,
    ) -> Any:
        """What a step returns. [N] bool each:

        `cut` who was truncated by it, `alive` who goes on, `moving` who of them acts next, `turn`
        as in `look`. Whoever else was alive has died. Who is cut is alive in the observation that
        the step led to, with a last view, and not in the one to act on. The episode is over where
        nobody moves: truncated if anybody was, and then for all that are left.
        """
        before, self.alive, told = self.alive, alive, dict(infos)
        if moving.any():
            obs = self.look(seen, infos, alive | cut, moving | cut, cut, turn)
            if not cut.any():
                return obs, reward, False, False, told
            following = self.look(seen, infos, alive, moving, np.zeros_like(cut), turn)
            return obs, reward, False, False, told | {FOLLOWING: following}
        truncated = bool(cut.any())
        left = cut | alive if truncated else before
        obs = self.look(seen, infos, left, left, left, turn)
        return obs, reward, not truncated, truncated, told

    def state_of(self, view: np.ndarray, lost: bool) -> np.ndarray:
        """The state [S] float32; `lost` is true if an agent is not in the game.

        Some simulators cannot give their state without all agents; the last state is used then.
        """
        if not self.own_state:
            return view[self.filled]
        try:
            self.state = np.array(numbers(self.global_state()))
        except Exception as error:
            if self.state is None or not lost:
                kind = type(error).__name__
                raise EnvError(f"{self.team.id} raised {kind} in state(): {error}") from error
        return self.state

    def legal_now(
        self,
        seen: Mapping[Any, Any],
        infos: Mapping[Any, Any],
        moving: np.ndarray,
        ended: np.ndarray,
    ) -> np.ndarray:
        """[N, A] bool: the masks of those who move, only action 0 for all others.

        Raises EnvError where somebody is to move, not `ended`, and has no legal action.
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
            if not mask.any() and not ended[i]:
                raise EnvError(
                    f"{self.team.id} gives {name}, who is to move, a mask with no legal action: "
                    f"{WAIT}"
                )
            if not mask.any():
                legal[i] = self.nothing
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


def is_of_agents(seen: spaces.Space, act: spaces.Tuple) -> bool:
    """Whether these can be the observations and the actions of several agents."""
    kinds = {isinstance(space, spaces.Box) for space in act}
    same = isinstance(seen, spaces.Tuple) and len(seen) == len(act)
    return same and len(kinds) == 1


class TupleTeam(Team):
    """A Gymnasium environment whose spaces, observations and rewards are tuples over agents.

    Such as lbforaging's and rware's. These two report their time limits as terminations; here they
    are truncations. One reward for all is shared out among the agents in the game, so that it
    counts once. Flags are for all or one for each agent, who is then out of the game.
    """

    CUT: ClassVar[dict[str, Callable[[Any], bool]]] = {
        "lbforaging": lambda game: bool(game.field.any()),  # there is food left
        "rware": lambda game: True,  # shelves are asked for without end
    }

    def __init__(self, env: gymnasium.Env):
        self.env, game = env, env.unwrapped
        seen: Any = env.observation_space
        act: Any = env.action_space
        id = env.spec.id if env.spec else type(game).__name__
        if not is_of_agents(seen, act):
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

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode."""
        values, info = self.env.reset(seed=seed, options=options)
        return self.begin(self.by_name(values), {}, np.ones(len(self.names), bool)), info

    def step(self, action: Any) -> Any:
        """One step of all agents."""
        own = tuple(self.action_of(i, action) for i in range(len(self.seats)))
        values, reward, terminated, truncated, info = self.env.step(own)
        if np.any(terminated) and self.cut(self.env.unwrapped):
            terminated, truncated = False, terminated
        paid = np.asarray(reward, np.float32)
        if paid.ndim == 0:
            paid = np.where(self.alive, paid / self.alive.sum(), np.float32(0.0))
        dead = self.alive & self.of_each(terminated, bool, "flags")
        cut = self.alive & ~dead & self.of_each(truncated, bool, "flags")
        left = self.alive & ~dead & ~cut
        paid = self.of_each(paid, np.float32, "rewards")
        *answer, told = self.answer(self.by_name(values), {}, paid, cut, left, left)
        return *answer, info | told

    def by_name(self, values: Any) -> dict[str, Any]:
        """One observation for each agent by its name."""
        if len(values) != len(self.names):
            raise EnvError(
                f"{self.team.id} gave {len(values)} observations, not {len(self.names)}."
            )
        return dict(zip(self.names, values, strict=True))

    def of_each(self, value: Any, dtype: Any, what: str) -> np.ndarray:
        """[N], of one value for all or one for each agent. Raises EnvError for another number."""
        array = np.asarray(value, dtype)
        if array.shape not in ((), (len(self.names),)):
            raise EnvError(
                f"{self.team.id} gave {what} of shape {array.shape}, which must be one for all or "
                f"one for each of its {len(self.names)} agents."
            )
        return np.broadcast_to(array, len(self.names))

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()
