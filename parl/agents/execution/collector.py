"""Fills rollouts from numpy vector environments: the host side of acting.

A collector is what a rollout worker holds, in this process or in another: environments, memory and
a clock. It gets a policy and gives a Rollout of numpy arrays, nothing else passes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from parl import ops
from parl.agents.execution.ended import Ended, both, nothing
from parl.agents.execution.protocol import Seeds, act, no_legal_action
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import named_leaves, to_numpy
from parl.core.errors import CheckpointError
from parl.core.programs import as_data, shared
from parl.core.spec_json import ExactSpec, exact
from parl.core.types import Rollout, Step
from parl.envs.info import LastNumbers
from parl.envs.protocol import EnvState, Transition, VectorEnv


class Fragment(NamedTuple):
    """What one collector brings: a rollout and what is known of the episodes that ended in it."""

    rollout: Rollout  # leaves [*lead, T, B, ...], memory [*lead, B, ...]
    ended: Ended  # [*lead] each


class CollectorState(NamedTuple):
    """A collector in the form a checkpoint takes; `envs` has one entry per seed."""

    arrays: dict[str, Any]
    envs: list[EnvState]


class Recorder:
    """Writes the trees of `length` steps into arrays with a time axis at `axis`."""

    def __init__(self, length: int, axis: int):
        self.length, self.lead, self.time = length, (slice(None),) * axis, 0

    def add(self, step: Any) -> None:
        """The next step; all have the structure, shapes and types of the first."""
        leaves = jax.tree.leaves(step)
        if not self.time:
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


@shared
def act_program(random: bool, spec: ExactSpec, seeds: Seeds, structure: Any) -> Any:
    """(algorithm, policy, obs, first, memory, key, time) -> what `act` gives.

    For algorithms of a structure.
    """

    def acting(
        algorithm: Algorithm, policy: Any, obs: Any, first: Any, memory: Any, key: Any, time: Any
    ) -> Any:
        key = jax.random.fold_in(key, time)
        return act(algorithm, spec.spec, policy, obs, first, memory, key, random)

    return jax.jit(seeds.vmap(acting, (seeds.learner_axis, 0, 0, 0, 0, 0, None)))


class Collector:
    """Steps one vector environment per seed with one policy per seed."""

    def __init__(
        self,
        envs: Sequence[VectorEnv],
        algorithm: Algorithm,
        seeds: Seeds,
        worker: int = 0,
        log_info: Sequence[str] = (),
    ):
        self.envs, self.algorithm, self.seeds = list(envs), algorithm, seeds
        self.num_envs = envs[0].num_envs
        self.time = 0
        self.key = seeds.stack([jax.random.fold_in(k, worker) for k in self.seed_keys()])
        self.memory = algorithm.memory((*seeds.lead, self.num_envs))
        self.told = LastNumbers(log_info, (*seeds.lead, self.num_envs))
        self.restart()
        self.data = as_data(algorithm)
        kind = exact(envs[0].spec), seeds.form, jax.tree.structure(self.data)
        self.programs = {random: act_program(random, *kind) for random in (True, False)}

    def seed_keys(self) -> list[Any]:
        """The acting key of each seed."""
        keys = self.seeds.keys().act
        return list(keys) if self.seeds.vmapped else [keys]

    def restart(self) -> None:
        """Opens new episodes in all environments."""
        shape = (*self.seeds.lead, self.num_envs)
        self.obs = self.seeds.stack([env.reset() for env in self.envs])
        self.first, self.returns = np.ones(shape, bool), np.zeros(shape)
        self.lengths = np.zeros(shape, np.int64)
        self.told.forget(self.first)

    def collect(self, policy: Any, length: int, random: bool = False) -> Fragment:
        """Rolls all environments for `length` steps; `random` replaces the actions."""
        if self.algorithm.episodic:
            self.restart()
        program, memory = self.programs[random], self.memory
        recorder = Recorder(length, len(self.seeds.lead))
        ended = nothing(self.seeds.lead, len(self.told.names))
        for _ in range(length):
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
        steps = Step(*recorder.tree())
        steps = steps._replace(discount=1.0 - steps.discount.astype(np.float32))
        return Fragment(Rollout(steps, jax.tree.map(np.asarray, memory)), ended)

    def close_episodes(self, last: np.ndarray) -> Ended:
        """What is known of the episodes that end now, where last [*lead, B]; others go on."""
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
        """Everything the next rollout depends on, but for the policy."""
        tree = {"first": self.first, "returns": self.returns, "memory": self.memory}
        tree["lengths"] = self.lengths
        if self.told.names:
            tree["told"] = self.told.values
        arrays = {name: to_numpy(leaf) for name, leaf in named_leaves(tree).items()}
        arrays["time"] = np.asarray(self.time)
        return CollectorState(arrays, [env.get_state() for env in self.envs])

    def set_state(self, state: CollectorState) -> None:
        """Continues from a state; where an environment cannot, its episodes start anew."""
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
        names = list(named_leaves({"memory": self.memory}))
        leaves = [state.arrays[name] for name in names]
        self.memory = jax.tree.unflatten(jax.tree.structure(self.memory), leaves)

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Has all environments go on with these parameters."""
        for env in self.envs:
            env.change(parameters)

    def close(self) -> None:
        """Closes the environments."""
        for env in self.envs:
            env.close()
