"""The protocol of the three executions, through which the trainer drives them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from parl import ops
from parl.agents.execution.ended import Ended
from parl.agents.learner import Learner, LearnerState, OffPolicy, example_rollout
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import Checkpoint
from parl.core.errors import EnvError
from parl.core.pieces import Ring
from parl.core.programs import as_data, shared
from parl.core.seeding import RunKeys, run_keys
from parl.core.sharding import mesh_for
from parl.core.spec import EnvSpec
from parl.core.spec_json import ExactSpec, exact
from parl.core.types import Array, Metrics, Rollout
from parl.envs.protocol import VectorEnv


@dataclass(frozen=True)
class Seeds:
    """One seed, or several whose runs carry an axis [K] in front of everything."""

    values: tuple[int, ...]
    vmapped: bool = False
    own_learners: bool = False  # each has hyperparameters of its own: learners are [K, ...], too

    @property
    def form(self) -> "Seeds":
        """As many seeds, whichever they are: what programs are made for."""
        return replace(self, values=(0,) * len(self.values))

    @property
    def learner_axis(self) -> int | None:
        """The axis of the seeds in a learner, for `vmap`."""
        return 0 if self.own_learners else None

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading axes of a run's arrays: () or (K,)."""
        return (len(self.values),) if self.vmapped else ()

    def stack(self, trees: list[Any]) -> Any:
        """One tree per seed as one tree with the leading axes."""
        if not self.vmapped:
            return trees[0]
        return jax.tree.map(lambda *x: (jnp if is_jax(x[0]) else np).stack(x), *trees)

    def take(self, tree: Any, index: int) -> Any:
        """The part of the seed with this index, without the leading axes."""
        return jax.tree.map(lambda x: x[index], tree) if self.vmapped else tree

    def vmap(self, function: Any, in_axes: Any = 0, out_axes: Any = 0) -> Any:
        """`function` over the leading axes."""
        return jax.vmap(function, in_axes, out_axes) if self.vmapped else function

    def keys(self) -> RunKeys:
        """The keys of the runs."""
        return self.stack([run_keys(seed) for seed in self.values])


def is_jax(x: Any) -> bool:
    """Whether x is a jax array rather than a numpy one."""
    return isinstance(x, jax.Array)


class Report(NamedTuple):
    """Results of some iterations; arrays have the leading axes of the seeds, () or [K]."""

    metrics: dict[str, np.ndarray]  # means of what is finite; empty while warming up
    ended: Ended  # the episodes that ended
    spent: Mapping[str, float] = {}
    asks_to_save: bool = False  # whether a checkpoint should be written soon


def mean_of(total: Any, count: Any) -> np.ndarray:
    """total / count, NaN where nothing was counted."""
    total, count = np.asarray(total), np.asarray(count)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(total.dtype)


def mean_of_finite(values: Any) -> np.ndarray:
    """The mean [...] of what is finite in values [n, ...], NaN where nothing is."""
    values = np.asarray(values)
    finite = np.isfinite(values)
    return mean_of(np.where(finite, values, 0).sum(0), finite.sum(0))


def finite_sums(metrics: Metrics) -> tuple[Metrics, dict[str, Array]]:
    """(what is finite in metrics, else 0; [] int32 each, whether it is): to be added up."""
    finite = jax.tree.map(jnp.isfinite, metrics)
    sums = jax.tree.map(lambda x, fine: jnp.where(fine, x, 0), metrics, finite)
    return sums, jax.tree.map(jnp.int32, finite)


class Discarded(NamedTuple):
    """Updates that were discarded because of NaN or infinity; () or [K] each."""

    total: Any
    in_row: Any  # since the last good one

    @classmethod
    def of(cls, state: LearnerState) -> "Discarded":
        """Those that a learner's state counts."""
        return cls(np.asarray(state.skipped), np.asarray(state.bad_in_row))


class Devices(NamedTuple):
    """What a run computes on."""

    kind: str
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  that share one seed's work

    @classmethod
    def of(cls, mesh: Mesh | None) -> "Devices":
        """Those of a mesh, or the only one."""
        return cls(jax.devices()[0].device_kind, mesh.size if mesh else 1)


class Snapshot(NamedTuple):
    """A run in the form a checkpoint takes."""

    tree: dict[str, Any]
    meta: dict[str, Any]
    exact: bool  # whether environments continue bit for bit
    ring: Ring | None = None  # where replay stands, so that only its changes need be saved


class Execution(Protocol):
    """A run in progress: collects and learns, one iteration after the other."""

    seeds: Seeds
    learner: Learner
    iteration: int  # rollouts collected so far
    steps_per_iteration: int  # environment steps of one seed
    warmup: int  # the first iteration that learns; those before it only store
    mesh: Mesh | None  # devices of this process that share one seed's work

    def advance(self, iterations: int) -> Report:
        """Runs some iterations; fewer where it is to stop, see `heed`.

        Raises EnvError where an environment misbehaves.
        """
        ...

    @property
    def policy(self) -> Any:
        """The current policy, with the leading axes of the seeds."""
        ...

    @property
    def state(self) -> LearnerState:
        """The learner's current state, with the leading axes of the seeds."""
        ...

    def set_state(self, state: LearnerState) -> None:
        """Goes on with another state of the same form."""
        ...

    @property
    def algorithm_state(self) -> Any:
        """The algorithm's current state, a part of `state`."""
        ...

    @property
    def discarded(self) -> Discarded:
        """Updates that came to nothing."""
        ...

    @property
    def devices(self) -> Devices:
        """The devices that it computes on."""
        ...

    def updates_since(self, iteration: int) -> int:
        """Updates of each seed in the iterations from this one on."""
        ...

    def keep(self, take: Callable[[Rollout, int], None]) -> None:
        """Has `take` called with each rollout and the steps at its end.

        Raises ConfigError where rollouts are not on the host.
        """
        ...

    def stats(self) -> dict[str, float]:
        """Numbers on collecting that a run logs, by the names they are logged under."""
        ...

    def snapshot(self, replay: bool = True) -> Snapshot:
        """The state of the run, with or without the content of replay."""
        ...

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of the same run.

        One without replay has it filled anew before learning goes on. Raises CheckpointError.
        """
        ...

    def lend(self) -> Sequence[VectorEnv] | None:
        """Each seed's environments, lent for evaluation; None if there are none to lend."""
        ...

    def restart(self) -> None:
        """Begins new episodes, after the environments were lent."""
        ...

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Has all environments go on with these parameters. Raises EnvError."""
        ...

    def heed(self, stopped: Callable[[], bool]) -> None:
        """Has `advance` end soon after `stopped` is true; Halted if that is amid its first."""
        ...

    def close(self) -> None: ...


def batch_mesh(learner: Learner, num_envs: int) -> Mesh | None:
    """The devices among which one seed's batches are split; None where there is only one."""
    return mesh_for(learner.batch_size if isinstance(learner, OffPolicy) else num_envs)


def updates_of(learner: Learner, iterations: int) -> int:
    """Updates in so many iterations that learn."""
    return max(0, iterations) * (learner.updates if isinstance(learner, OffPolicy) else 1)


def init_learner(
    learner: Learner, spec: EnvSpec, seeds: Seeds, length: int, num_envs: int, data: Any = ()
) -> LearnerState:
    """The learner's state before the first iteration; `data` is the data set that it holds."""
    algorithm = as_data(learner.algorithm)
    algorithm_state = init_program(spec, seeds, algorithm)(algorithm, seeds.keys().init)
    one = seeds.take(algorithm, 0) if seeds.own_learners else algorithm
    example = example_rollout(one, seeds.take(algorithm_state, 0), spec, length, num_envs)
    return learner.init(algorithm_state, example, seeds.lead).replace(data=data)


def init_program(spec: EnvSpec, seeds: Seeds, algorithm: Algorithm) -> Any:
    """(algorithm, keys) -> its states before the first update."""
    kind = spec.id, spec.max_steps, exact(spec), seeds.form
    return shared_init(*kind, jax.tree.structure(algorithm))


@shared
def shared_init(
    id: str, max_steps: int | None, spec: ExactSpec, seeds: Seeds, structure: Any
) -> Any:
    """`init_program` for algorithms of a structure."""
    one = lambda algorithm, key: algorithm.init(key, spec.spec)

    # one after the other: orthogonal initialisation takes far longer to compile vmapped
    def all_seeds(algorithm: Algorithm, keys: Array) -> Any:
        if seeds.own_learners:
            return jax.lax.map(lambda x: one(*x), (algorithm, keys))
        return jax.lax.map(lambda key: one(algorithm, key), keys)

    return jax.jit(all_seeds if seeds.vmapped else one)


def policy_program(seeds: Seeds, algorithm: Algorithm) -> Any:
    """(algorithm, states) -> policies."""
    return shared_policy(seeds.form, jax.tree.structure(algorithm))


@shared
def shared_policy(seeds: Seeds, structure: Any) -> Any:
    """`policy_program` for algorithms of a structure."""
    extract = lambda algorithm, state: algorithm.policy(state)
    return jax.jit(seeds.vmap(extract, (seeds.learner_axis, 0)))


def act(
    algorithm: Algorithm,
    spec: EnvSpec,
    policy: Any,
    obs: Any,
    first: Array,
    memory: Any,
    key: Array,
    random: bool,
    explore: bool = True,
    place: Any = None,
) -> tuple[Any, Any, dict[str, Any]]:
    """Actions for obs [B, *O], with memory reset at the start of an episode.

    `random` replaces the policy's actions by uniform ones, for warm-up. `place` [B] is where the
    environments stand among all of a run, see `places`; by default they are all.
    """
    memory = ops.where_first(first, algorithm.memory(first.shape), memory)
    if explore:
        place = places(first.shape[0]) if place is None else place
        algorithm, policy = algorithm.exploring(policy, place)
    action, memory, extras = algorithm.act(policy, obs, memory, key, explore)
    if random:
        legal = ops.legal_actions(obs)
        shape = (*first.shape, *spec.agent_shape)
        action = ops.uniform_action(key, spec.action_space, shape, legal)
    return action, memory, extras


def places(count: int, first: int = 0, total: int = 0) -> np.ndarray:
    """[count] from 0 to 1: where environments stand that begin with `first` of `total`."""
    return np.linspace(first, first + count - 1, count, dtype=np.float32) / max(
        (total or count) - 1, 1
    )


def no_legal_action(spec: EnvSpec) -> EnvError:
    """The error of an environment that leaves an agent nothing to do."""
    return EnvError(
        f"{spec.id} has an observation whose mask `legal` leaves no legal action; "
        "give an agent that cannot act one that does nothing."
    )


def warmup_iterations(learner: Learner, steps_per_iteration: int) -> int:
    """Number of warm-up iterations, which only fill replay."""
    return -(-learner.warmup // steps_per_iteration)
