"""Offline execution: updates on a data set, and no environment is stepped.

One iteration is `updates` updates, and each update counts as a step of the run.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from parl.agents.execution.ended import nothing
from parl.agents.execution.pooled import host_programs, improve_on_host
from parl.agents.execution.protocol import (
    Devices,
    Discarded,
    Report,
    Seeds,
    Snapshot,
    finite_sums,
    init_program,
    mean_of,
    policy_program,
)
from parl.agents.learner import (
    FromData,
    Learner,
    LearnerState,
    seed_axes,
    with_data,
    without_data,
)
from parl.agents.replay.ring import Layout
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import Checkpoint
from parl.core.errors import CheckpointError, ConfigError
from parl.core.programs import as_data, shared
from parl.core.spec import EnvSpec
from parl.core.spec_json import ExactSpec, exact
from parl.core.types import Array, Rollout

OFFLINE = 2**31 - 1  # keeps the keys of updates on data apart from those of iterations
CHUNK = 65_536  # steps of data that are observed at a time


class Data(NamedTuple):
    """A data set as replay holds it."""

    rows: dict[str, Any]  # [n, D] by dtype, packed steps in the order of time
    layout: Layout
    sha256: str  # the identity of the files that they are from

    @property
    def size(self) -> int:
        """The number of steps."""
        return len(next(iter(self.rows.values())))

    def chunks(self) -> Iterator[Any]:
        """The steps [c, ...], c of them at a time."""
        for start in range(0, self.size, CHUNK):
            yield self.layout.unpack(
                {k: row[start : start + CHUNK] for k, row in self.rows.items()}
            )


def init_state(learner: FromData, spec: EnvSpec, seeds: Seeds, data: Data) -> LearnerState:
    """The state before the first update, with the statistics of the data."""
    algorithm = as_data(learner.algorithm)
    algorithm_state = init_program(spec, seeds, algorithm)(algorithm, seeds.keys().init)
    see = observe_program(exact(spec), seeds.form, jax.tree.structure(algorithm))
    for steps in data.chunks():
        algorithm_state = see(algorithm, algorithm_state, steps)
    held = learner.replay.filled(data.rows, data.layout, seeds.lead)
    return LearnerState.fresh(algorithm_state, lead=seeds.lead).replace(data=held)


@shared
def observe_program(spec: ExactSpec, seeds: Seeds, structure: Any) -> Any:
    """(algorithm, states, steps [c, ...]) -> states, for algorithms of a structure."""

    def see(algorithm: Algorithm, state: Any, steps: Any) -> Any:
        steps = jax.tree.map(lambda x: x[:, None], steps)  # of one environment
        return algorithm.observe(state, Rollout(steps, algorithm.memory((1,))))

    return jax.jit(seeds.vmap(see, (seeds.learner_axis, 0, None)), donate_argnums=1)


@shared
def update_program(spec: ExactSpec, seeds: Seeds, structure: Any) -> Any:
    """(learner, state, keys, first, iterations) -> (state, sums, counts of the metrics)."""

    def one(
        learner: FromData, state: LearnerState, key: Array, first: Array, iterations: Array
    ) -> Any:
        key = jax.random.fold_in(key, OFFLINE)

        def step(state: LearnerState, iteration: Array) -> Any:
            state, metrics = learner.improve(state, jax.random.fold_in(key, iteration))
            return state, finite_sums(metrics)

        def body(i: Array, carry: Any) -> Any:
            state, new = step(carry[0], first + i)
            return state, jax.tree.map(jnp.add, carry[1], new)

        shapes = jax.eval_shape(step, state, first)[1]
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.fori_loop(0, iterations, body, (state, zero))

    def all_seeds(
        learner: FromData, state: LearnerState, key: Array, first: Array, iterations: Array
    ) -> Any:
        axes = seed_axes(state)
        many = seeds.vmap(one, (seeds.learner_axis, axes, 0, None, None), (axes, 0))
        return many(learner, state, key, first, iterations)

    return jax.jit(all_seeds, donate_argnums=1)


class Offline:
    """Runs a learner on a data set, for one seed or for several as one program."""

    mesh: Mesh | None = None
    warmup = 0

    def __init__(self, spec: EnvSpec, learner: FromData, seeds: Seeds, data: Data):
        if seeds.vmapped and learner.on_host:
            raise ConfigError(
                "a data set in host memory serves one seed at a time; set replay_on_host=False or "
                "train the seeds one by one."
            )
        self.spec, self.seeds, self.sha256 = spec, seeds, data.sha256
        self.learner: Learner = learner
        self.own = learner
        self.data, self.keys = as_data(learner), seeds.keys().learn
        self.steps_per_iteration, self.iteration = learner.updates, 0
        self.state = init_state(learner, spec, seeds, data)
        self.stopped: Callable[[], bool] = lambda: False

    def advance(self, iterations: int) -> Report:
        ended = nothing(self.seeds.lead)
        if self.own.on_host:
            return Report(self.advance_on_host(iterations), ended)
        kind = exact(self.spec), self.seeds.form, jax.tree.structure(self.data)
        args = self.keys, np.int32(self.iteration), np.int32(iterations)
        self.state, (sums, counts) = update_program(*kind)(self.data, self.state, *args)
        sums, counts = jax.device_get((sums, counts))
        self.iteration += iterations
        return Report({name: mean_of(x, counts[name]) for name, x in sums.items()}, ended)

    def advance_on_host(self, iterations: int) -> dict[str, np.ndarray]:
        """Some iterations with the data in host memory."""
        programs = host_programs(exact(self.spec), None, None, jax.tree.structure(self.data))
        total: Any = None
        for _ in range(iterations):
            key = jax.random.fold_in(jax.random.fold_in(self.keys, OFFLINE), self.iteration)
            self.state, metrics = improve_on_host(self.own, programs[0], self.data, self.state, key)
            sums = jax.device_get(finite_sums(metrics))
            total = sums if total is None else jax.tree.map(np.add, total, sums)
            self.iteration += 1
        return {name: mean_of(x, total[1][name]) for name, x in total[0].items()}

    @property
    def policy(self) -> Any:
        algorithm = self.data.algorithm
        return policy_program(self.seeds, algorithm)(algorithm, self.algorithm_state)

    def set_state(self, state: LearnerState) -> None:
        self.state = state

    @property
    def algorithm_state(self) -> Any:
        return self.state.algorithm_state

    def stats(self) -> dict[str, float]:
        return {}

    def keep(self, take: Callable[[Rollout, int], None]) -> None:
        raise ConfigError("a run on data collects nothing: leave out --record.")

    @property
    def discarded(self) -> Discarded:
        return Discarded.of(self.state)

    @property
    def devices(self) -> Devices:
        return Devices.of(self.mesh)

    def updates_since(self, iteration: int) -> int:
        return (self.iteration - iteration) * self.own.updates

    def snapshot(self, replay: bool = True) -> Snapshot:
        run = {"learner": without_data(self.state), "iteration": np.int64(self.iteration)}
        tree = {"run": run | {"keys": self.keys}}
        return Snapshot(tree, {"data": self.sha256}, exact=True)

    def restore(self, checkpoint: Checkpoint) -> None:
        check_same_data(checkpoint, self.sha256)
        template = self.snapshot().tree["run"]
        run = checkpoint.restore("run", template)
        self.state = with_data(run["learner"], self.state)
        self.iteration = int(run["iteration"])

    def lend(self) -> None:
        """There are no environments."""

    def restart(self) -> None:
        """Nothing was lent."""

    def change(self, parameters: Mapping[str, Any]) -> None:
        raise ConfigError("a run on data has no environments whose parameters could change.")

    def heed(self, stopped: Callable[[], bool]) -> None:
        """Nothing is waited for."""

    def close(self) -> None:
        """Nothing to release."""


def check_same_data(checkpoint: Checkpoint, sha256: str) -> None:
    """Raises CheckpointError if a run was saved with other data."""
    found = checkpoint.meta.get("data")
    if found != sha256:
        raise CheckpointError(
            f"{checkpoint.path} was saved with other data, of sha256 {str(found)[:12]}..., and now "
            f"it is {sha256[:12]}...: give it the data set that it began with."
        )
