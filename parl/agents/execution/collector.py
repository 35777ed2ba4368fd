"""Fills rollouts from numpy vector environments: the host side of acting.

A collector belongs to a rollout worker, in this process or another, and holds environments, memory
and a step counter. It takes a policy and returns a Rollout of numpy arrays.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from parl import ops
from parl.agents.execution.ended import Ended, both, nothing
from parl.agents.execution.protocol import Seeds, act, no_legal_action, places
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import named_leaves, to_numpy
from parl.core.errors import CheckpointError, Halted
from parl.core.programs import as_data, shared
from parl.core.spec_json import ExactSpec, exact
from parl.core.types import Rollout, Step
from parl.envs.info import LastNumbers
from parl.envs.protocol import EnvState, Transition, VectorEnv


class Fragment(NamedTuple):
    """The result of one collector: a rollout, and statistics of the episodes that ended in it."""

    rollout: Rollout  # leaves [*lead, T, B, ...], memory [*lead, B, ...]
    ended: Ended  # [*lead] each


class Kept(NamedTuple):
    """A rollout that stays where it is, in the place of one in a Fragment."""

    rollout: Any  # how to get it
    leaves: list[np.ndarray]  # those of its leaves that are needed here, in their order


class CollectorState(NamedTuple):
    """A collector in the form a checkpoint takes; `envs` has one entry per seed."""

    arrays: dict[str, Any]
    envs: list[EnvState]


class Recorder:
    """Writes the trees of `length` steps into arrays with a time axis at `axis`."""

    def __init__(self, length: int, axis: int):
        self.length, self.lead, self.time = length, (slice(None),) * axis, 0
        self.arrays: list[np.ndarray] = []
        self.structure: Any = None

    def add(self, step: Any) -> None:
        """Adds a step; all steps have the structure, shapes and dtypes of the first."""
        leaves = jax.tree.leaves(step)
        if self.structure is None:
            self.structure, axis = jax.tree.structure(step), len(self.lead)
            shape = lambda x: (*x.shape[:axis], self.length, *x.shape[axis:])
            self.arrays = [np.empty(shape(x), x.dtype) for x in leaves]
        index = (*self.lead, self.time)
        for array, leaf in zip(self.arrays, leaves, strict=True):
            array[index] = leaf
        self.time += 1

    def tree(self) -> Any:
        """All steps."""
        return jax.tree.unflatten(self.structure, self.arrays)

    def taken(self) -> list[np.ndarray]:
        """The leaves of the steps so far."""
        return [array[(*self.lead, slice(self.time))] for array in self.arrays]

    def take_up(self, structure: Any, leaves: Sequence[np.ndarray]) -> None:
        """Goes on behind the steps that `taken` gave, of which there is at least one."""
        self.structure, axis = structure, len(self.lead)
        self.time = leaves[0].shape[axis]
        for leaf in leaves:
            array = np.empty((*leaf.shape[:axis], self.length, *leaf.shape[axis + 1 :]), leaf.dtype)
            array[(*self.lead, slice(self.time))] = leaf
            self.arrays.append(array)


class Begun(NamedTuple):
    """A rollout under way."""

    steps: list[np.ndarray]  # leaves [*lead, t, B, ...] of the steps so far
    memory: Any  # [*lead, B, ...] before its first step
    ended: Ended  # of the episodes in it


def saved_tree(like: Any, arrays: dict[str, Any]) -> Any:
    """The tree of the names of `like`, with its leaves among the arrays of a state."""
    leaves = [arrays[name] for name in named_leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def before_learning(state: CollectorState, fragment: Fragment) -> CollectorState:
    """A state from which `collect` brings the fragment that was collected last once more."""
    (steps, memory), ended = fragment
    recorded = steps._replace(discount=steps.discount == 0)  # the terminated flags
    begun = Begun(jax.tree.leaves(recorded), memory, ended)
    arrays = {name: to_numpy(x) for name, x in named_leaves({"begun": begun._asdict()}).items()}
    return state._replace(arrays=state.arrays | arrays)


@shared
def act_program(random: bool, explore: bool, spec: ExactSpec, seeds: Seeds, structure: Any) -> Any:
    """(algorithm, policy, obs, first, memory, key, time, place) -> what `act` gives.

    For algorithms of a structure.
    """

    def acting(
        algorithm: Algorithm,
        policy: Any,
        obs: Any,
        first: Any,
        memory: Any,
        key: Any,
        time: Any,
        place: Any,
    ) -> Any:
        key = jax.random.fold_in(key, time)
        return act(algorithm, spec.spec, policy, obs, first, memory, key, random, explore, place)

    return jax.jit(seeds.vmap(acting, (seeds.learner_axis, 0, 0, 0, 0, 0, None, None)))


class Collector:
    """Steps one vector environment per seed with one policy per seed.

    `place` [B] is where its environments stand among all of a run, see `places`; by default they
    are all.
    """

    def __init__(
        self,
        envs: Sequence[VectorEnv],
        algorithm: Algorithm,
        seeds: Seeds,
        worker: int = 0,
        log_info: Sequence[str] = (),
        explore: bool = True,
        place: np.ndarray | None = None,
    ):
        self.envs, self.seeds = list(envs), seeds
        self.num_envs = envs[0].num_envs
        self.place = places(self.num_envs) if place is None else place
        self.time = 0
        self.key = seeds.stack([jax.random.fold_in(k, worker) for k in self.seed_keys()])
        self.memory = algorithm.memory((*seeds.lead, self.num_envs))
        self.told = LastNumbers(log_info, (*seeds.lead, self.num_envs))
        self.stopped: Callable[[], bool] = lambda: False  # whether `collect` is to end early
        self.begun: Begun | None = None
        self.restart()
        self.explore = explore
        self.use(algorithm)

    def use(self, algorithm: Algorithm) -> None:
        """Acts with an algorithm from here on."""
        self.algorithm, self.data = algorithm, as_data(algorithm)
        kind = exact(self.envs[0].spec), self.seeds.form, jax.tree.structure(self.data)
        self.programs = {x: act_program(x, self.explore, *kind) for x in (True, False)}

    def seed_keys(self) -> list[Any]:
        """The acting key of each seed."""
        keys = self.seeds.keys().act
        return list(keys) if self.seeds.vmapped else [keys]

    def restart(self) -> None:
        """Starts new episodes in all environments."""
        shape = (*self.seeds.lead, self.num_envs)
        self.obs = self.seeds.stack([env.reset() for env in self.envs])
        self.first, self.returns = np.ones(shape, bool), np.zeros(shape)
        self.lengths = np.zeros(shape, np.int64)
        self.told.forget(self.first)

    def collect(self, policy: Any, length: int, random: bool = False) -> Fragment:
        """Rolls all environments for `length` steps; `random` replaces the actions.

        Raises Halted soon after `stopped` is true; the next call goes on from there, also where
        the state in between was saved.
        """
        if self.stopped():
            raise Halted("the rollout is not begun.")
        if self.algorithm.episodic and self.begun is None:
            self.restart()
        program, recorder = self.programs[random], Recorder(length, len(self.seeds.lead))
        memory, ended = self.memory, nothing(self.seeds.lead, len(self.told.names))
        if self.begun is not None:
            memory, ended = self.begun.memory, self.begun.ended
            recorder.take_up(self.structure(program, policy), self.begun.steps)
            self.begun = None
        while recorder.time < length:
            if ops.is_stuck(self.obs, self.envs[0].spec.action_space):
                raise no_legal_action(self.envs[0].spec)
            action, self.memory, extras = program(
                self.data,
                policy,
                self.obs,
                self.first,
                self.memory,
                self.key,
                np.int32(self.time),
                self.place,
            )
            action = jax.tree.map(np.asarray, action)
            new = self.step(action)
            last = new.terminated | new.truncated
            step = self.obs, action, new.reward, new.terminated, new.next_obs, self.first, last
            recorder.add((*step, extras))
            self.returns = self.returns + ops.over_agents(new.reward, last)
            self.lengths = self.lengths + 1
            if last.any():
                ended = both(ended, self.close_episodes(last))
            self.obs, self.first, self.time = new.obs, last, self.time + 1
            if recorder.time < length and self.stopped():
                self.begun = Begun(recorder.taken(), memory, ended)
                raise Halted("the rollout was broken off.")
        steps = Step(*recorder.tree())
        steps = steps._replace(discount=1.0 - steps.discount.astype(np.float32))
        return Fragment(Rollout(steps, jax.tree.map(np.asarray, memory)), ended)

    def structure(self, program: Any, policy: Any) -> Any:
        """That of a step as it is recorded."""
        args = self.obs, self.first, self.memory, self.key, np.int32(self.time), self.place
        action, _, extras = jax.eval_shape(program, self.data, policy, *args)
        return jax.tree.structure((self.obs, action, 0, 0, self.obs, 0, 0, extras))

    def close_episodes(self, last: np.ndarray) -> Ended:
        """Statistics of the episodes that end now, where last [*lead, B] is true."""
        returns, told = self.returns, self.told.values
        ends = last[..., None] & ~np.isnan(told)  # [*lead, B, names]
        ended = Ended(
            last.sum(-1),
            np.where(last, returns, 0.0).sum(-1),
            np.where(last, returns, np.inf).min(-1),
            np.where(last, returns, -np.inf).max(-1),
            np.where(last, self.lengths, 0).sum(-1),
            np.where(ends, told, 0.0).sum(-2),
            ends.sum(-2),
        )
        self.returns, self.lengths = np.where(last, 0.0, returns), np.where(last, 0, self.lengths)
        self.told.forget(last)
        return ended

    def step(self, action: Any) -> Transition:
        """One step of all environments with actions [*lead, B, ...]."""
        if not self.seeds.vmapped:
            new = self.envs[0].step(action)
        else:
            parts = zip(self.envs, action, strict=True)
            new = self.seeds.stack([env.step(part) for env, part in parts])
        if self.told.names:
            for k, env in enumerate(self.envs):
                self.told.see(env.infos, *([k] if self.seeds.vmapped else []))
        return new

    def get_state(self) -> CollectorState:
        """Everything that the next rollout depends on, except the policy."""
        tree = {"first": self.first, "returns": self.returns, "memory": self.memory}
        tree["lengths"] = self.lengths
        if self.told.names:
            tree["told"] = self.told.values
        if self.begun is not None:
            tree["begun"] = self.begun._asdict()
        arrays = {name: to_numpy(leaf) for name, leaf in named_leaves(tree).items()}
        arrays["time"] = np.asarray(self.time)
        return CollectorState(arrays, [env.get_state() for env in self.envs])

    def set_state(self, state: CollectorState) -> None:
        """Restores a state; environments that cannot continue exactly start new episodes."""
        if len(state.envs) != len(self.envs):
            raise CheckpointError(
                f"The checkpoint has environments of {len(state.envs)} seeds, this run has "
                f"{len(self.envs)}; resume it with the settings it was saved with."
            )
        saved = [env.set_state(part) for env, part in zip(self.envs, state.envs, strict=True)]
        self.obs, self.time = self.seeds.stack(saved), int(state.arrays["time"])
        exact = np.array([part.exact for part in state.envs])
        keep = exact[:, None] if self.seeds.vmapped else exact[0]
        self.first = state.arrays["first"] | ~keep
        self.returns = np.where(keep, state.arrays["returns"], 0.0)
        lengths = state.arrays.get("lengths", 0)  # those of earlier versions did not count
        self.lengths = np.where(keep, lengths, np.zeros_like(self.lengths))
        told = state.arrays.get("told", np.nan)
        self.told.values = np.where(keep[..., None], told, np.full_like(self.told.values, np.nan))
        self.memory = saved_tree({"memory": self.memory}, state.arrays)["memory"]
        self.begun = self.saved_begun(state.arrays) if exact.all() else None

    def saved_begun(self, arrays: dict[str, Any]) -> Begun | None:
        """The rollout that was under way when a state was taken."""
        count = sum(name.startswith("begun/steps/") for name in arrays)
        if not count:
            return None
        ended = nothing(self.seeds.lead, len(self.told.names))
        begun = Begun([np.empty(0)] * count, self.memory, ended)
        return Begun(**saved_tree({"begun": begun._asdict()}, arrays)["begun"])

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Has all environments go on with these parameters."""
        for env in self.envs:
            env.change(parameters)

    def close(self) -> None:
        """Closes the environments."""
        for env in self.envs:
            env.close()
