"""Host and Ray execution: learning from the rollouts of a pool of collectors.

The pool says where the collectors run, see pool.py: in this process or in Ray actors.
All else is the same code, so that synchronous runs are the same numbers.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from parl.agents.execution.collector import CollectorState, Fragment
from parl.agents.execution.ended import total
from parl.agents.execution.pool import InlinePool, Pool
from parl.agents.execution.protocol import (
    Devices,
    Discarded,
    Report,
    Seeds,
    Snapshot,
    batch_mesh,
    init_learner,
    mean_of_finite,
    policy_program,
    updates_of,
    warmup_iterations,
)
from parl.agents.learner import (
    Learner,
    LearnerState,
    OffPolicy,
    lacks_replay,
    observe,
    ring_of,
    seed_axes,
    with_rows,
    without_rows,
)
from parl.core.checkpoint import Checkpoint
from parl.core.errors import CheckpointError, ConfigError, Halted
from parl.core.programs import as_data, shared
from parl.core.sharding import (
    Averaging,
    averaged_after,
    batches_over,
    gathered,
    here,
    replicated,
    shared_out,
    spans_processes,
    whole,
)
from parl.core.spec import EnvSpec
from parl.core.spec_json import ExactSpec, exact
from parl.core.types import Array, Metrics, Rollout
from parl.envs import pulse
from parl.envs.protocol import EnvState, VectorEnv


class Pooled:
    """Runs a pool and a learner; the pool's rollouts are joined along the environments' axis.

    One iteration learns from [length, num_envs] steps: a fragment of every worker. Where several
    processes learn together, each has a pool of its own, with its part of the environments, and all
    call the same methods in the same order. `averaging` has the devices learn from shares.
    """

    def __init__(
        self,
        pool: Pool,
        spec: EnvSpec,
        learner: Learner,
        seeds: Seeds,
        num_envs: int,
        length: int,
        data: Any = (),
        averaging: Averaging | None = None,
    ):
        if seeds.vmapped and isinstance(learner, OffPolicy) and learner.on_host:
            raise ConfigError(
                "a replay in host memory serves one seed at a time; "
                "set replay_on_host=False or train the seeds one by one."
            )
        self.pool, self.spec, self.learner, self.seeds = pool, spec, learner, seeds
        self.data = as_data(learner)
        self.steps_per_iteration = num_envs * length
        self.warmup = warmup_iterations(learner, self.steps_per_iteration)
        self.iteration = 0
        self.keys = seeds.keys().learn
        self.mesh = None if seeds.vmapped else batch_mesh(learner, num_envs)
        self.state = self.place(init_learner(learner, spec, seeds, length, num_envs, data))
        self.fill, self.learn = learning_programs(learner, spec, seeds, self.mesh, averaging)
        self.take: Callable[[Rollout, int], None] | None = None
        self.pool.publish(self.policy, 0)

    def place(self, state: LearnerState) -> LearnerState:
        """Brings the state to all devices of the run; replay in host memory stays there."""
        return state if self.mesh is None else replicated(self.mesh, state)

    def advance(self, iterations: int) -> Report:
        metrics, ended, spent = [], [], Spent()
        for _ in range(iterations):
            filling = self.iteration < self.warmup
            try:
                with spent.on("wait"):
                    parts = self.collect(random=filling)
            except Halted:
                if not ended:
                    raise
                break  # what came before counts
            ended += [part.ended for part in parts]
            rollout = self.join([part.rollout for part in parts])
            if self.take is not None:
                self.take(rollout, (self.iteration + 1) * self.steps_per_iteration)
            rollout = self.divide(rollout)
            if filling:
                self.state, policy = self.fill(self.data, self.state, rollout)
            else:
                clock = np.int32(self.iteration)
                learned = self.learn(self.data, self.state, rollout, self.keys, clock)
                self.state, policy, info = learned
                if info:
                    metrics.append(info)
            self.iteration += 1
            jax.block_until_ready(policy)  # publishing waits for it anyway, and is told apart
            with spent.on("publish"):
                self.pool.publish(here(policy), self.iteration)
            pulse.beat()
        mean = {}
        if metrics:
            metrics = jax.device_get(here(metrics))
            mean = {name: mean_of_finite([m[name] for m in metrics]) for name in metrics[0]}
        return Report(mean, total(ended), spent.seconds, self.pool.asks_to_save())

    def collect(self, random: bool) -> list[Fragment]:
        """Collects the fragments of one iteration."""
        return self.pool.collect(random=random)

    def join(self, rollouts: list[Rollout]) -> Rollout:
        """The workers' rollouts as one."""
        if len(rollouts) == 1:
            return rollouts[0]
        axis = len(self.seeds.lead)
        concatenate = lambda axis: lambda *x: np.concatenate(x, axis)
        return Rollout(
            jax.tree.map(concatenate(axis + 1), *[rollout.steps for rollout in rollouts]),
            jax.tree.map(concatenate(axis), *[rollout.memory for rollout in rollouts]),
        )

    def divide(self, rollout: Rollout) -> Rollout:
        """Its environments divided among the devices; replay takes it whole."""
        off_policy = isinstance(self.learner, OffPolicy)
        if self.mesh is None or (off_policy and not spans_processes(self.mesh)):
            return rollout
        steps = shared_out(self.mesh, rollout.steps, axis=1)
        rollout = Rollout(steps, shared_out(self.mesh, rollout.memory))
        return gathered(self.mesh, rollout) if off_policy else rollout

    @property
    def policy(self) -> Any:
        algorithm = self.data.algorithm
        return policy_program(self.seeds, algorithm)(algorithm, self.algorithm_state)

    def set_state(self, state: LearnerState) -> None:
        self.state = self.place(state)
        self.pool.publish(self.policy, self.iteration)

    @property
    def algorithm_state(self) -> Any:
        return here(self.state.algorithm_state)

    def keep(self, take: Callable[[Rollout, int], None]) -> None:
        self.take = take

    @property
    def discarded(self) -> Discarded:
        return Discarded.of(here(self.state))

    @property
    def devices(self) -> Devices:
        return Devices.of(self.mesh)

    def updates_since(self, iteration: int) -> int:
        return updates_of(self.learner, self.iteration - max(iteration, self.warmup))

    def stats(self) -> dict[str, float]:
        return {f"pool/{name}": value for name, value in self.pool.metrics().items()}

    def snapshot(self, replay: bool = True) -> Snapshot:
        state, rows = without_rows(here(self.state), replay)
        run = {"learner": state, "iteration": np.int64(self.iteration), "keys": self.keys}
        workers = self.snapshot_workers()
        tree = {"run": run, "replay": rows} | workers.tree
        return workers._replace(tree=tree, ring=ring_of(self.learner, state, self.iteration))

    def snapshot_workers(self) -> Snapshot:
        """The state of the workers."""
        states = self.pool.get_states()
        arrays = [{"collector": w.arrays, "envs": [env.arrays for env in w.envs]} for w in states]
        envs = [[{"meta": env.meta, "exact": env.exact} for env in w.envs] for w in states]
        meta = {"workers": envs, "pool": self.pool.state_dict()}
        exact = all(env.exact for w in states for env in w.envs)
        return Snapshot({"workers": arrays}, meta, exact)

    def restore(self, checkpoint: Checkpoint) -> None:
        before = here(self.state)
        template = {
            "learner": without_rows(before)[0],
            "iteration": np.int64(0),
            "keys": self.keys,
        }
        run = checkpoint.restore("run", template)
        rows = checkpoint.under("replay")
        self.state = self.place(with_rows(run["learner"], rows, before))
        self.iteration = int(run["iteration"])
        self.warmup = warmup_iterations(self.learner, self.steps_per_iteration)
        if lacks_replay(run["learner"], rows):
            self.warmup += self.iteration
        self.restore_workers(checkpoint)
        self.pool.publish(self.policy, self.iteration)

    def restore_workers(self, checkpoint: Checkpoint) -> None:
        """Restores the state of the workers."""
        workers = checkpoint.meta["workers"]
        if len(workers) != self.pool.num_workers:
            raise CheckpointError(
                f"{checkpoint.path} was saved by {len(workers)} rollout workers, this run has "
                f"{self.pool.num_workers}; resume with as many."
            )
        states = []
        for w, envs in enumerate(workers):
            parts = [
                EnvState(checkpoint.under(f"workers/{w}/envs/{i}"), env["meta"], env["exact"])
                for i, env in enumerate(envs)
            ]
            states.append(CollectorState(checkpoint.under(f"workers/{w}/collector"), parts))
        self.pool.load_state_dict(checkpoint.meta["pool"])
        self.pool.set_states(states)

    def lend(self) -> list[VectorEnv] | None:
        return self.pool.collectors[0].envs if isinstance(self.pool, InlinePool) else None

    def restart(self) -> None:
        if isinstance(self.pool, InlinePool):
            self.pool.collectors[0].restart()

    def change(self, parameters: Mapping[str, Any]) -> None:
        self.pool.change(parameters)

    def heed(self, stopped: Callable[[], bool]) -> None:
        self.pool.heed(stopped)

    def close(self) -> None:
        self.pool.close()


class Spent:
    """Seconds of an execution by what they were spent on: wait (for data) and publish."""

    def __init__(self) -> None:
        self.seconds = {"wait": 0.0, "publish": 0.0}

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Adds the time within."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - begin


def learning_programs(
    learner: Learner,
    spec: EnvSpec,
    seeds: Seeds,
    mesh: Mesh | None = None,
    averaging: Averaging | None = None,
) -> Any:
    """(storing, learning), compiled at their first calls; both return the next policy, too.

    storing: (learner, state, rollout); learning: (learner, state, rollout, key, iteration).
    """
    kind = exact(spec), mesh, averaging, jax.tree.structure(as_data(learner))
    if isinstance(learner, OffPolicy) and learner.on_host:
        return learn_from_host(learner, *host_programs(*kind))
    return learn_programs(seeds.form, *kind)


@shared
def learn_programs(
    seeds: Seeds, spec: ExactSpec, mesh: Mesh | None, averaging: Averaging | None, structure: Any
) -> tuple[Any, Any]:
    """The programs for a replay on the device or none, for learners of a structure."""

    def fill(learner: Learner, state: LearnerState, rollout: Rollout) -> tuple[LearnerState, Any]:
        state = learner.fill(state, rollout)
        return state, learner.policy(state)

    def learn(
        learner: Learner, state: LearnerState, rollout: Rollout, key: Array, iteration: Array
    ) -> tuple[LearnerState, Any, Metrics]:
        key = jax.random.fold_in(key, iteration)
        state, metrics = learner.learn(state, rollout, key)
        state = averaged_state(state, iteration)
        return state, learner.policy(state), metrics

    def fill_all(learner: Learner, state: LearnerState, rollout: Rollout) -> Any:
        axes = seed_axes(state)
        return seeds.vmap(fill, (seeds.learner_axis, axes, 0), (axes, 0))(learner, state, rollout)

    def learn_all(
        learner: Learner, state: LearnerState, rollout: Rollout, key: Array, iteration: Array
    ) -> Any:
        axes = seed_axes(state)
        all_seeds = seeds.vmap(learn, (seeds.learner_axis, axes, 0, 0, None), (axes, 0, 0))
        return all_seeds(learner, state, rollout, key, iteration)

    place, spread = mesh and whole(mesh), batches_over(mesh, averaging)
    return (
        jax.jit(spread(fill_all), donate_argnums=1, out_shardings=place),
        jax.jit(spread(learn_all), donate_argnums=1, out_shardings=place),
    )


def averaged_state(state: LearnerState, iteration: Array) -> LearnerState:
    """The state with what was learned averaged over the devices, where that is due."""
    part = state.algorithm_state, state.skipped, state.bad_in_row
    learned, skipped, bad_in_row = averaged_after(part, iteration)
    return state.replace(algorithm_state=learned, skipped=skipped, bad_in_row=bad_in_row)


@shared
def host_programs(
    spec: ExactSpec, mesh: Mesh | None, averaging: Averaging | None, structure: Any
) -> tuple[Any, Any, Any]:
    """What is compiled where replay lies in host memory: updates, observing, the policy."""
    improve = lambda learner, state, batches, key: learner.update_many(state, batches, key)
    see = lambda learner, state, rollout: observe(learner.algorithm, state, rollout)
    policy = lambda learner, state: learner.algorithm.policy(state)
    spread = batches_over(mesh, averaging)
    return (
        jax.jit(spread(improve), donate_argnums=1, out_shardings=mesh and whole(mesh)),
        jax.jit(see, donate_argnums=1),
        jax.jit(policy),
    )


def learn_from_host(own: OffPolicy, improve: Any, see: Any, policy: Any) -> tuple[Any, Any]:
    """Storing and learning with the replay of `own`, which lies in host memory."""

    def store(learner: OffPolicy, state: LearnerState, rollout: Rollout) -> LearnerState:
        seen = see(learner, state.replace(replay=None, data=()), rollout)  # they stay
        return seen.replace(replay=own.store(state.replay, rollout), data=state.data)

    def fill(learner: OffPolicy, state: LearnerState, rollout: Rollout) -> tuple[LearnerState, Any]:
        state = store(learner, state, rollout)
        return state, policy(learner, state.algorithm_state)

    def learn(
        learner: OffPolicy, state: LearnerState, rollout: Rollout, key: Array, iteration: Array
    ) -> tuple[LearnerState, Any, Metrics]:
        state = store(learner, state, rollout)
        key = jax.random.fold_in(key, iteration)
        state, metrics = improve_on_host(own, improve, learner, state, key)
        return state, policy(learner, state.algorithm_state), metrics

    return fill, learn


def improve_on_host(
    own: OffPolicy, improve: Any, learner: OffPolicy, state: LearnerState, key: Array
) -> tuple[LearnerState, Metrics]:
    """`OffPolicy.improve` with replay and data of `own` in host memory; `improve` is compiled."""
    k_sample, k_update = jax.random.split(key)
    index, batches = own.sample(state, k_sample)
    bare = state.replace(replay=None, data=())  # stay where they are
    improved, metrics = improve(learner, bare, jax.tree.map(jnp.asarray, batches), k_update)
    held = improved.replace(replay=state.replay, data=state.data)
    metrics = jax.device_get(metrics)
    state = own.learned(held, index, metrics.get("td_error"))
    return state, jax.tree.map(np.mean, metrics)
