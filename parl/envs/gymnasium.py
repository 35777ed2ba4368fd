"""Gymnasium environments, stepped together in this process."""

import dataclasses
import functools
import importlib
import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import error as gymnasium_error
from gymnasium import spaces
from gymnasium.envs import registration

from parl.core.errors import CheckpointError, EnvError, MissingPackage, nearest
from parl.core.spec import EnvSpec
from parl.envs import gymnasium_state
from parl.envs.gymnasium_spaces import convert_actions, convert_space, stacker
from parl.envs.gymnasium_team import Team, TupleTeam
from parl.envs.protocol import EnvState, Transition
from parl.envs.team import is_pettingzoo

# Packages that register a namespace, or a family, of ids only when they are imported.
_NAMESPACES = {"ALE": "ale_py"}
_FAMILIES = {"Foraging": "lbforaging", "rware": "rware"}
# Import names that differ from what pip calls them.
_PIP_NAMES = {"ale_py": "ale-py", "Box2D": "'gymnasium[box2d]'", "cv2": "opencv-python"}


def make_gymnasium(id: str, **kwargs: Any) -> Callable[[], gymnasium.Env]:
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
        raise _missing_package(id, error) from error
    except Exception as error:
        raise EnvError(f"{id} could not be made: {type(error).__name__}: {error}") from error


def _remarks_logged(spec: registration.EnvSpec) -> AbstractContextManager[None]:
    """MuJoCo's remarks about a model that is its own; it is imported for those alone."""
    if "mujoco" not in str(spec.entry_point):
        return nullcontext()
    from parl.envs.mujoco_log import remarks_logged

    return remarks_logged()


def _resolve(id: str) -> registration.EnvSpec:
    """The registered spec of an id: 'Name-v0', 'Namespace/Name-v0' or 'module:Name-v0'."""
    module, _, name = id.rpartition(":")
    namespace = name.partition("/")[0] if "/" in name else ""
    family = re.split("[-_]", name)[0]
    try:
        for package in (module, _NAMESPACES.get(namespace), _FAMILIES.get(family)):
            if package:
                importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise _missing_package(id, error) from error
    try:
        return gymnasium.spec(name)
    except gymnasium_error.Error as error:
        hint = nearest(name, gymnasium.registry)
        raise EnvError(f"unknown environment '{id}'.{hint}") from error


def _missing_package(id: str, error: Exception) -> MissingPackage:
    commands = re.findall(r"`(pip install [^`]+)`", str(error))
    if not commands and isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        commands = [f"pip install {_PIP_NAMES.get(package, package)}"]
    command = " && ".join(commands).replace('"', "'") or str(error)
    return MissingPackage(f"{id} needs a package that is not installed: {command}")


def _is_finite(array: np.ndarray) -> bool:
    """Whether all numbers are finite: one dot product, and a closer look where it is not."""
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def adapted(env: Any) -> gymnasium.Env:
    """An environment of several agents, PettingZoo's or one of tuples, as a Team; others as is."""
    if isinstance(env, gymnasium.Env):
        if isinstance(env.unwrapped, Team) or not isinstance(env.action_space, spaces.Tuple):
            return env
        return TupleTeam(env)
    if is_pettingzoo(env):
        from parl.envs.pettingzoo import as_team  # loaded already

        return as_team(env)
    return env


class Face(NamedTuple):
    """How the agents' side sees an environment, and the functions that translate batches."""

    spec: EnvSpec
    stack: Callable[[Sequence[Any]], Any]  # B observations to arrays [B, *O]
    split: Callable[[np.ndarray], Sequence[Any]]  # actions [B, ...] to B actions


def face(env: gymnasium.Env, id: str | None) -> Face:
    """The spec of an environment under the name `id`, and its translators."""
    if isinstance(env.unwrapped, Team):
        spec = env.unwrapped.team
        spec = spec if id is None else dataclasses.replace(spec, id=id)
        return Face(spec, stack_dicts, list)
    action_space, action_map = convert_actions(env.action_space)
    spec = EnvSpec(
        id=id or (env.spec.id if env.spec else type(env.unwrapped).__name__),
        observation_space=convert_space(env.observation_space),
        action_space=action_space,
        max_steps=env.spec.max_episode_steps if env.spec else None,
    )
    return Face(spec, stacker(env.observation_space), action_map.split)


def stack_dicts(values: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """B dicts of arrays as one dict of arrays [B, ...]."""
    return {name: np.stack([value[name] for value in values]) for name in values[0]}


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
    ) -> None:
        self.envs = [adapted(make()) for _ in range(num_envs)]
        self._spec, self._stack, self._split = face(self.envs[0], id)
        self._action_shape = self._spec.action.shape[1:]
        self._step_functions = [env.step for env in self.envs]
        self._seed = seed
        self._seeded = False
        self._steps = 0  # calls of step()
        self._obs: Any = None  # [B, *O] what was returned last
        self._infos: Sequence[Any] = ()

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
        return self._reset_all(self._seeds())

    def step(self, action: Any) -> Transition:
        if self._obs is None:
            raise EnvError(f"{self._spec.id} has to be reset before its first step.")
        self._steps += 1
        actions = self._split(self._checked(np.asarray(action)))
        results: list[Any] = []
        try:
            for step, one in zip(self._step_functions, actions, strict=True):
                results.append(step(one))
        except EnvError:
            raise
        except Exception as error:
            raise self._failed("step", len(results), error) from error
        values, rewards, terminations, truncations, self._infos = zip(*results, strict=True)
        next_obs = self._batch(values)
        reward = np.array(rewards, np.float32).reshape(len(rewards), *self._spec.agent_shape)
        self._check_finite(reward, "reward")
        terminated = np.array(terminations, bool)  # [B]
        truncated = np.array(truncations, bool)  # [B]
        self._obs = next_obs
        if any(terminations) or any(truncations):
            fresh = list(values)
            for index in np.flatnonzero(terminated | truncated).tolist():
                fresh[index] = self._reset_one(index)
            self._obs = self._batch(fresh)
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

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def _seeds(self, *fold: int) -> list[int | None]:
        """One seed per environment from (seed, index, *fold)."""
        entropy = ([self._seed, index, *fold] for index in range(self.num_envs))
        return [int(np.random.SeedSequence(e).generate_state(1)[0]) for e in entropy]

    def _reset_all(self, seeds: list[int | None]) -> Any:
        self._seeded = True
        self._obs = self._batch([self._reset_one(i, seed) for i, seed in enumerate(seeds)])
        return self._obs

    def _reset_one(self, index: int, seed: int | None = None) -> Any:
        try:
            return self.envs[index].reset(seed=seed)[0]
        except EnvError:
            raise
        except Exception as error:
            raise self._failed("reset", index, error) from error

    def _batch(self, values: Sequence[Any]) -> Any:
        """Fresh arrays [B, *O] of one observation per environment, all of them finite."""
        try:
            obs = self._stack(values)
        except (KeyError, TypeError, ValueError) as error:
            raise EnvError(
                f"{self._spec.id} returned an observation that does not fit its space: {error}"
            ) from error
        self._check_finite(obs, "observation")
        return obs

    def _checked(self, action: np.ndarray) -> np.ndarray:
        if action.shape != (len(self.envs), *self._action_shape):
            raise EnvError(
                f"{self._spec.id} takes actions of shape {(self.num_envs, *self._action_shape)}, "
                f"not {action.shape}."
            )
        # MuJoCo replaces a NaN control by zero without a word, so it has to be caught here.
        if action.dtype.kind == "f" and not _is_finite(action):
            raise EnvError(
                f"{self._spec.id} was given a NaN or infinite action at step {self._steps}; "
                "the policy has probably diverged."
            )
        return action

    def _check_finite(self, tree: Any, what: str) -> None:
        if isinstance(tree, dict):
            for part in tree.values():
                self._check_finite(part, what)
        elif tree.dtype.kind == "f" and not _is_finite(tree):
            rows = tree.reshape(len(tree), -1)  # [B, O]
            index = int(np.argmin(np.isfinite(rows).all(axis=1)))
            kind = "a NaN" if np.isnan(rows[index]).any() else "an infinite"
            raise EnvError(
                f"{self._spec.id} returned {kind} {what} in environment {index} at step "
                f"{self._steps}; its simulation has diverged or its code has a bug."
            )

    def _failed(self, call: str, index: int, error: Exception) -> EnvError:
        return EnvError(
            f"{self._spec.id} raised {type(error).__name__} in {call} of environment {index} "
            f"at step {self._steps}: {error}"
        )
