"""Vector environments of the user's own, as gymnasium.make_vec makes them.

Of Gymnasium's three modes of reset: with SAME_STEP the last observation of an episode is in
`infos["final_obs"]`, with DISABLED those that ended are reset by a mask, and so are those with
NEXT_STEP, since the step in which such an environment resets itself is no step of its episode.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import vector
from gymnasium.vector.utils import iterate

from parl.core.errors import CheckpointError, EnvError, told
from parl.core.finite import check_answer
from parl.core.spec import EnvSpec
from parl.envs.adapters import gymnasium_checks as checks
from parl.envs.adapters import gymnasium_masks as masks
from parl.envs.adapters.gymnasium_interface import observer
from parl.envs.adapters.gymnasium_json import describe
from parl.envs.adapters.gymnasium_spaces import convert_actions
from parl.envs.protocol import EnvState, Transition
from parl.envs.pulse import beat

KNOWN = (vector.SyncVectorEnv, vector.AsyncVectorEnv)  # which reset by a mask in every mode
COUNT = "num_envs"  # what a maker takes that can make any number of environments


def takes_count(make: Callable[..., Any]) -> bool:
    """Whether a maker can be asked for a number of environments."""
    try:
        return COUNT in inspect.signature(make).parameters
    except (TypeError, ValueError):
        return False


def made(make: Callable[..., Any], num_envs: int, id: str) -> vector.VectorEnv:
    """What a maker makes; `num_envs` environments where it takes their number."""
    try:
        env = make(num_envs=num_envs) if takes_count(make) else make()
    except checks.FAILURES as error:
        raise EnvError(f"{id} could not be made: {told(error)}") from error
    if not isinstance(env, vector.VectorEnv):
        raise EnvError(f"{id} makes {env!r:.60}, which is not a vector environment of Gymnasium.")
    return env


def class_name(env: vector.VectorEnv) -> str:
    """What a vector environment is called that was not given a name."""
    return env.spec.id if env.spec else type(env.unwrapped).__name__


def mode_of(env: vector.VectorEnv, id: str) -> vector.AutoresetMode:
    """How ended environments are reset. Raises EnvError where a step would be made up."""
    said = (env.metadata or {}).get("autoreset_mode", vector.AutoresetMode.NEXT_STEP)
    try:
        mode = vector.AutoresetMode(said)
    except ValueError as error:
        raise EnvError(f"{id} has the unknown autoreset mode {said!r}.") from error
    if mode is vector.AutoresetMode.NEXT_STEP and not isinstance(env.unwrapped, KNOWN):
        raise EnvError(
            f"{id} resets ended environments in the step after (AutoresetMode.NEXT_STEP), whose "
            "observation, action and reward are of no episode: make it with "
            "AutoresetMode.SAME_STEP or DISABLED, or with vectorization_mode='sync'."
        )
    return mode


class AdaptedVectorEnv:
    """B environments of a gymnasium.vector.VectorEnv behind the VectorEnv protocol."""

    def __init__(self, env: vector.VectorEnv, seed: int, id: str):
        self.env, self._id, self._seed = env, id, seed
        self._mode = mode_of(env, id)
        self._steps, self._told = 0, []
        self._obs: Any = None
        self._opening: Any = self._reset(self._seeds())
        info, seen = self._opening[1], env.single_observation_space
        action_space, self._map = convert_actions(env.single_action_space)
        path = masks.find_mask(seen, action_space)
        self._informed = path is None and masks.IN_INFO in info and self._map.choices
        space, self._stack = observer(seen, action_space, self._informed)
        self._parts = isinstance(seen, gymnasium.spaces.Dict | gymnasium.spaces.Tuple)
        self._spec = EnvSpec(
            id=id,
            observation_space=space,
            action_space=action_space,
            max_steps=env.spec.max_episode_steps if env.spec else None,
            action_map=self._map,
            native={"observation": describe(seen), "informed": self._informed},
        )

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @property
    def num_envs(self) -> int:
        return self.env.num_envs

    @property
    def infos(self) -> Sequence[Any]:
        return self._told

    def reset(self) -> Any:
        obs, info = self._opening or self._reset(None)
        self._opening = None
        self._obs = self._batch(self._rows(obs), info)
        return self._obs

    def step(self, action: Any) -> Transition:
        if self._obs is None:
            raise EnvError(f"{self._id} has to be reset before its first step.")
        action = np.asarray(action)
        if action.shape != (due := (self.num_envs, *self._spec.action.shape[1:])):
            raise EnvError(f"{self._id} takes actions of shape {due}, not {action.shape}.")
        self._steps += 1
        try:
            obs, rewards, terminated, truncated, infos = self.env.step(self._map(action))
        except checks.FAILURES as error:
            raise self._failed("step", error) from error
        beat()
        terminated = checks.flags_of(terminated, "terminated", self._id)
        truncated = checks.flags_of(truncated, "truncated", self._id)
        reward = checks.rewards_of(rewards, (), self._id)
        check_answer(reward, "reward", self._id, self._steps)
        ended = terminated | truncated
        rows = self._rows(obs)
        if not ended.any():
            self._told = [info_of(infos, i) for i in range(self.num_envs)]
            self._obs = next_obs = self._batch(rows, infos)
            return Transition(self._obs, reward, terminated, truncated, next_obs)
        rows, self._told = list(rows), []
        if self._mode is vector.AutoresetMode.SAME_STEP:
            fresh, last, after = list(rows), self._last(infos), infos
            final = infos.get("final_info", {})
            self._told = [info_of(final if e else infos, i) for i, e in enumerate(ended)]
            for i in np.flatnonzero(ended).tolist():
                rows[i] = part_of(self.env.single_observation_space, last, i)
        else:
            self._told = [info_of(infos, i) for i in range(self.num_envs)]
            new, after = self._reset(None, ended)
            fresh = [b if e else a for a, b, e in zip(rows, self._rows(new), ended, strict=True)]
        next_obs = self._batch(rows, infos, ended)
        self._obs = self._batch(fresh, merged(infos, after, ended))
        return Transition(self._obs, reward, terminated, truncated, next_obs)

    def get_state(self) -> EnvState:
        """Only a position: `set_state` starts episodes that are new, but the same each time."""
        meta = {"id": self._id, "num_envs": self.num_envs, "steps": self._steps}
        return EnvState({}, meta, exact=False)

    def set_state(self, state: EnvState) -> Any:
        if (state.meta.get("id"), state.meta.get("num_envs")) != (self._id, self.num_envs):
            raise CheckpointError(
                f"a state of {state.meta.get('num_envs')} x {state.meta.get('id')} cannot be "
                f"continued by {self.num_envs} x {self._id}."
            )
        self._steps = int(state.meta["steps"])
        self._opening = self._reset(self._seeds(self._steps + 1))
        return self.reset()

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Sets attributes of all environments by `set_attr`."""
        env: Any = self.env
        if not hasattr(env, "set_attr"):
            raise EnvError(f"{self._id} has no set_attr, by which its parameters could be changed.")
        try:
            for name, value in parameters.items():
                env.get_attr(name)  # raises where there is none
                env.set_attr(name, value)
        except checks.FAILURES as error:
            raise self._failed("set_attr", error) from error

    def close(self) -> None:
        try:
            self.env.close()
        except checks.FAILURES as error:
            raise self._failed("close", error) from error

    def _seeds(self, *fold: int) -> list[int]:
        """One seed per environment from (seed, index, *fold)."""
        entropy = ([self._seed, index, *fold] for index in range(self.num_envs))
        return [int(np.random.SeedSequence(e).generate_state(1)[0]) for e in entropy]

    def _reset(self, seeds: list[int] | None, ended: np.ndarray | None = None) -> tuple[Any, Any]:
        """(observations, infos) of new episodes, of those that ended or of all."""
        known = isinstance(self.env.unwrapped, KNOWN)
        seed: Any = seeds if known or seeds is None else seeds[0]
        options = None if ended is None else {"reset_mask": ended}
        try:
            answer = self.env.reset(seed=seed, options=options)
        except checks.FAILURES as error:
            raise self._failed("reset", error) from error
        beat()
        return checks.reset_answer(answer, self._id)

    def _rows(self, obs: Any) -> Sequence[Any]:
        """One observation for each environment."""
        return list(iterate(self.env.observation_space, obs)) if self._parts else obs

    def _last(self, infos: Mapping[str, Any]) -> Any:
        """The last observations of the episodes that ended."""
        found = infos.get("final_obs", infos.get("final_observation"))
        if found is None:
            raise EnvError(
                f"{self._id} ended an episode without its last observation: with "
                'AutoresetMode.SAME_STEP it has to be in infos["final_obs"].'
            )
        return found

    def _batch(self, rows: Sequence[Any], infos: Any, ended: np.ndarray | None = None) -> Any:
        """Fresh arrays [B, *O], all of them finite, with what is legal where infos tell it."""
        try:
            obs = self._stack(rows)
            if self._informed:
                size = self._spec.observation_space["legal"].shape[0]  # pyright: ignore
                told = [np.ones(size) if ended is not None and ended[i] else mask
                        for i, mask in enumerate(infos[masks.IN_INFO])]  # fmt: skip
                obs["legal"] = masks.stack_masks(told, size)
        except (KeyError, TypeError, ValueError) as error:
            raise EnvError(
                f"{self._id} returned an observation that does not fit its space: {error}."
            ) from error
        check_answer(obs, "observation", self._id, self._steps)
        return obs

    def _failed(self, call: str, error: BaseException) -> EnvError:
        return EnvError(f"{self._id} raised {told(error, f' in {call} at step {self._steps}')}")


def part_of(space: Any, batch: Any, index: int) -> Any:
    """One observation of a batch that infos hold: an array, or dicts of them."""
    if isinstance(space, gymnasium.spaces.Dict) and isinstance(batch, Mapping):
        return {name: part_of(part, batch[name], index) for name, part in space.items()}
    return batch[index]


def info_of(infos: Any, index: int) -> dict[str, Any]:
    """What one environment told, of a vector's dict of arrays with masks `_name`."""
    found: dict[str, Any] = {}
    for name, values in infos.items() if isinstance(infos, Mapping) else ():
        told = infos.get(f"_{name}")
        if name.startswith("_") or (told is not None and not told[index]):
            continue
        if isinstance(values, Mapping):
            found[name] = info_of(values, index)
        elif len(np.shape(values)):
            found[name] = values[index]
    return found


def merged(before: Any, after: Any, ended: np.ndarray) -> Any:
    """Infos in which the masks of actions are those after the resets."""
    if after is before or masks.IN_INFO not in after:
        return before
    rows = zip(before[masks.IN_INFO], after[masks.IN_INFO], ended, strict=True)
    return {**before, masks.IN_INFO: [b if e else a for a, b, e in rows]}
