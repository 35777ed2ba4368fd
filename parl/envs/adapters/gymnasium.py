"""Gymnasium environments, stepped together in this process."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from parl.core.errors import CheckpointError, EnvError, told
from parl.core.finite import check_answer, find_not_finite
from parl.core.spec import EnvSpec, MultiDiscrete
from parl.envs.adapters import gymnasium_checks as checks
from parl.envs.adapters import gymnasium_masks as masks
from parl.envs.adapters import gymnasium_state
from parl.envs.adapters.gymnasium_checks import finite_bounds
from parl.envs.adapters.gymnasium_interface import face, own_id
from parl.envs.adapters.gymnasium_make import adapted
from parl.envs.adapters.gymnasium_team import FOLLOWING, Team
from parl.envs.protocol import EnvState, Transition
from parl.envs.pulse import beat


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
        results = self._results(action)
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

    def _results(self, action: Any) -> list[Any]:
        """What each environment returned from a step."""
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
        return results

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
