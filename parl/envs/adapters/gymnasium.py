"""Gymnasium environments, stepped together in this process."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import error as gymnasium_error
from gymnasium import spaces
from gymnasium.envs import registration

from parl.core.errors import CheckpointError, EnvError, SpaceError, nearest, told
from parl.core.finite import check_answer, find_not_finite
from parl.core.spec import Box, EnvSpec, MultiDiscrete, Space, flat_size, mask_space
from parl.envs.adapters import gymnasium_checks as checks
from parl.envs.adapters import gymnasium_masks as masks
from parl.envs.adapters import gymnasium_state
from parl.envs.adapters.gymnasium_checks import finite_bounds
from parl.envs.adapters.gymnasium_json import describe
from parl.envs.adapters.gymnasium_spaces import convert_actions, convert_space, stacker
from parl.envs.adapters.gymnasium_team import FOLLOWING, Team, TupleTeam
from parl.envs.ids import atari_hint, import_module, missing
from parl.envs.protocol import EnvState, Transition
from parl.envs.pulse import beat
from parl.envs.team import is_pettingzoo

# Packages that register a namespace, or a family, of ids only when they are imported.
_NAMESPACES = {"ALE": "ale_py"}
_FAMILIES = {"Foraging": "lbforaging", "rware": "rware"}
ALONE = "observation"  # what an observation is called that is no dict, where a mask is beside it


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
    for package in (module, _NAMESPACES.get(namespace), _FAMILIES.get(family)):
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


def told_index(make: Callable[..., Any], index: int) -> Callable[[], Any]:
    """The maker of the environment with this index, for those that take `index`."""
    try:
        taken = inspect.signature(make).parameters
    except (TypeError, ValueError):
        return make
    asked = next((name for name in ("index", "worker_index") if name in taken), "")
    return functools.partial(make, **{asked: index}) if asked else make


def set_parameters(env: gymnasium.Env, parameters: Mapping[str, Any], id: str) -> None:
    """Changes an environment, inside of its wrappers. Raises EnvError where it cannot be."""
    own = getattr(env, "game", env)  # a Team around an environment of several agents
    if not isinstance(own, gymnasium.Env):
        own = env
    if own.has_wrapper_attr("set_parameters"):
        own.get_wrapper_attr("set_parameters")(**parameters)
        return
    for name, value in parameters.items():
        if not own.has_wrapper_attr(name):
            raise EnvError(
                f"{id} has no parameter '{name}': give it that attribute or the method "
                "set_parameters(**parameters)."
            )
        own.set_wrapper_attr(name, value)


class GymnasiumVectorEnv:
    """B Gymnasium environments behind the VectorEnv protocol, stepped one after the other.

    Also those of several agents, PettingZoo's or with tuples of spaces: rewards are then [B, N].

    Every environment is seeded from (seed, index) at its first reset only. An environment that
    ends an episode is reset in the same step.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        num_envs: int,
        seed: int,
        id: str | None = None,
        first: int = 0,  # index of the first, told to a maker that asks for it
        start: int = 0,  # place of the first in a vector that several processes share
    ) -> None:
        self.envs = []
        for index in range(num_envs):
            self.envs.append(adapted(checks.made(told_index(make, first + index), id)))
            beat()
        self._id = id or own_id(self.envs[0])
        self._seed, self._start = seed, start
        self._seeded = False
        self._steps = 0  # calls of step()
        self._obs: Any = None  # [B, *O] what was returned last
        self._infos: Sequence[Any] = ()
        self._is_team = isinstance(self.envs[0].unwrapped, Team)
        self.remarks: list[str] = []  # warnings about values that are unusual but no error
        self._opening: Any = None  # what the first reset of environment 0 gave, until it is used
        if not self._is_team:
            checks.check_spaces(self.envs[0], self._id)
            self._opening = self._reset_one(0, self._seeds()[0])
        info = self._opening[1] if self._opening else None
        self._spec, self._stack, self._split, self._informed = face(self.envs[0], self._id, info)
        self._action_shape = self._spec.action.shape[1:]
        self._step_functions = [env.step for env in self.envs]
        self._masked = self._spec.has_mask and not self._is_team
        self._bounds = () if self._is_team else tuple(finite_bounds(self._spec.observation_space))

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @property
    def num_envs(self) -> int:
        return len(self.envs)

    @property
    def infos(self) -> Sequence[Any]:
        return self._infos

    def reset(self) -> Any:
        if self._seeded:
            return self._reset_all([None] * self.num_envs)
        return self._reset_all(self._seeds(), self._opening)

    def step(self, action: Any) -> Transition:
        if self._obs is None:
            raise EnvError(f"{self._spec.id} has to be reset before its first step.")
        self._steps += 1
        actions = self._split(self._checked(np.asarray(action)))
        results: list[Any] = []
        try:
            for step, one in zip(self._step_functions, actions, strict=True):
                results.append(step(one))
                beat()
        except EnvError:
            raise
        except checks.FAILURES as error:
            raise self._failed("step", len(results), error) from error
        values, rewards, terminations, truncations, infos = checks.unzipped(results, self._id)
        terminated = checks.flags_of(terminations, "terminated", self._id)  # [B]
        truncated = checks.flags_of(truncations, "truncated", self._id)  # [B]
        self._infos = infos
        ended = np.flatnonzero(terminated | truncated).tolist()
        self._obs = next_obs = self._batch(values, infos, ended)
        reward = checks.rewards_of(rewards, self._spec.agent_shape, self._id)
        check_answer(reward, "reward", self._id, self._steps, self._start)
        fresh, told = list(values), list(infos)
        parted = []  # environments that go on without an agent that was cut alone
        if self._spec.num_agents:
            parted = [i for i, info in enumerate(infos) if FOLLOWING in info]
        for index in parted:
            fresh[index] = infos[index][FOLLOWING]
        for index in ended:
            fresh[index], told[index] = self._reset_one(index)
        if parted or ended:
            self._obs = self._batch(fresh, told)
        self._check_legal()
        return Transition(self._obs, reward, terminated, truncated, next_obs)

    def get_state(self) -> EnvState:
        """The exact state of classic-control and MuJoCo environments; of others, only a position.

        Where `exact` is False, `set_state` starts episodes that are new, but the same each time.
        """
        if self._obs is None:
            raise CheckpointError(f"{self._spec.id} has no state before its first reset.")
        meta: dict[str, Any] = {
            "id": self._spec.id,
            "num_envs": self.num_envs,
            "steps": self._steps,
        }
        if not all(map(gymnasium_state.is_exact, self.envs)):
            return EnvState({}, meta, exact=False)
        arrays, meta["envs"] = gymnasium_state.capture(self.envs)
        arrays |= gymnasium_state.flatten("obs", self._obs)
        return EnvState(arrays, meta, exact=True)

    def set_state(self, state: EnvState) -> Any:
        meta, id = state.meta, self._spec.id
        if (meta.get("id"), meta.get("num_envs")) != (id, self.num_envs):
            raise CheckpointError(
                f"a state of {meta.get('num_envs')} x {meta.get('id')} cannot be continued by "
                f"{self.num_envs} x {id}."
            )
        try:
            self._steps = int(meta["steps"])
            if not state.exact:
                return self._reset_all(self._seeds(self._steps + 1))
            self._seeded = True
            gymnasium_state.restore(self.envs, state.arrays, meta["envs"])
            self._obs = gymnasium_state.unflatten("obs", self._spec.obs, state.arrays)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the state does not fit {id}: {type(error).__name__}: {error}"
            ) from error
        return self._obs

    def wrap(self, envs: Sequence[gymnasium.Env]) -> None:
        """Steps these in place of its environments, each around the one of its place."""
        self.envs, self._opening = list(envs), None
        self._step_functions = [env.step for env in self.envs]

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Calls each environment's `set_parameters` with them, or sets its attributes."""
        for index, env in enumerate(self.envs):
            try:
                set_parameters(env, parameters, self._id)
            except EnvError:
                raise
            except checks.FAILURES as error:
                raise self._failed("set_parameters", index, error) from error

    def close(self) -> None:
        """Closes all, then raises EnvError where one could not be."""
        failed: list[EnvError] = []
        for index, env in enumerate(self.envs):
            try:
                env.close()
            except checks.FAILURES as error:
                failed.append(self._failed("close", index, error))
        if failed:
            raise failed[0]

    def _seeds(self, *fold: int) -> list[int | None]:
        """One seed per environment from (seed, index, *fold)."""
        places = range(self._start, self._start + self.num_envs)
        entropy = ([self._seed, place, *fold] for place in places)
        return [int(np.random.SeedSequence(e).generate_state(1)[0]) for e in entropy]

    def _reset_all(self, seeds: list[int | None], opening: Any = None) -> Any:
        self._seeded, self._opening = True, None
        answers = [opening] if opening else []
        for index in range(len(answers), self.num_envs):
            answers.append(self._reset_one(index, seeds[index]))
        self._obs = self._batch(*zip(*answers, strict=True))
        self._check_legal()
        return self._obs

    def _reset_one(self, index: int, seed: int | None = None) -> tuple[Any, Any]:
        """(observation, info) at the start of an episode."""
        beat()
        try:
            answer = self.envs[index].reset(seed=seed)
        except EnvError:
            raise
        except checks.FAILURES as error:
            failed = self._failed("reset", index, error)
            if isinstance(error, TypeError) and "argument 'seed'" in str(error):
                failed = EnvError(
                    f"{failed}; it has to be reset(self, *, seed=None, options=None)."
                )
            raise failed from error
        return checks.reset_answer(answer, self._id)

    def _batch(self, values: Sequence[Any], infos: Sequence[Any], ended: Sequence[int] = ()) -> Any:
        """Fresh arrays [B, *O] of one observation per environment, all of them finite.

        `ended` are the environments whose episodes are over, which need no mask any more.
        """
        try:
            obs = self._stack(values)
            if self._informed:
                obs["legal"] = self._masks(infos, ended)
        except (KeyError, TypeError, ValueError) as error:
            raise EnvError(
                f"{self._id} returned an observation that does not fit its space: {error}."
            ) from error
        check_answer(obs, "observation", self._id, self._steps, self._start)
        # later ones only now and then: the comparisons take as long as a step of CartPole
        due = self._bounds and (self._steps < 1000 or self._steps % 16 == 0)
        if due and (remark := checks.outside(obs, self._bounds, self._id, self._steps)):
            self._bounds = ()
            self.remarks.append(remark)
            checks.warn_once(self._id, remark)
        return obs

    def _masks(self, infos: Sequence[Any], ended: Sequence[int]) -> np.ndarray:
        """[B, A] bool, from what the environments tell beside their observations."""
        size = self._spec.observation_space["legal"].shape[0]  # pyright: ignore
        rows = [np.ones(size, bool) if i in ended else None for i in range(self.num_envs)]
        for index, info in enumerate(infos):
            if isinstance(info, dict) and masks.IN_INFO in info:
                rows[index] = info[masks.IN_INFO]
            elif rows[index] is None:
                raise EnvError(
                    f"{self._id} gave info['{masks.IN_INFO}'] at its first reset, but not in "
                    f"environment {self._start + index} at step {self._steps}: give it at every "
                    "reset and step."
                )
        return masks.stack_masks(rows, size)

    def _check_legal(self) -> None:
        """Raises EnvError where a mask leaves nothing to do."""
        if not self._masked:
            return
        space = self._spec.action_space
        counts = space.nvec if isinstance(space, MultiDiscrete) else (0,)
        starts = np.cumsum((0, *counts[:-1]))
        some = np.logical_or.reduceat(self._obs["legal"], starts, axis=1).all(1)  # [B]
        if not some.all():
            raise EnvError(
                f"{self._id} has a mask with no legal action in environment {int(some.argmin())} "
                f"at step {self._steps}: end the episode there, or allow one that does nothing."
            )

    def _checked(self, action: np.ndarray) -> np.ndarray:
        if action.shape != (len(self.envs), *self._action_shape):
            raise EnvError(
                f"{self._spec.id} takes actions of shape {(self.num_envs, *self._action_shape)}, "
                f"not {action.shape}."
            )
        # MuJoCo replaces a NaN control by zero without a word, so it has to be caught here.
        if find_not_finite(action):
            raise EnvError(
                f"{self._spec.id} was given a NaN or infinite action at step {self._steps}; "
                "the policy has probably diverged."
            )
        return action

    def _failed(self, call: str, index: int, error: BaseException) -> EnvError:
        where = f" in {call} of environment {self._start + index} at step {self._steps}"
        failed = EnvError(f"{self._id} raised {told(error, where)}")
        failed.__cause__ = error
        return failed
