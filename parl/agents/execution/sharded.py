"""Asynchronous execution with a replay in other processes.

Rollouts go from the workers to the shards of the replay. What gets here is that they are there, how
their episodes ended, and those leaves that the algorithm's statistics are made of.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Var

from parl.agents.execution.collector import Fragment
from parl.agents.execution.pooled import host_programs, learn_from_host
from parl.agents.execution.protocol import Seeds, Snapshot, updates_of
from parl.agents.execution.streamed import Streamed, StreamPool
from parl.agents.learner import LearnerState, OffPolicy, observe, shapes
from parl.agents.replay.shard import in_shards
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import Checkpoint
from parl.core.programs import shared
from parl.core.spec import EnvSpec
from parl.core.spec_json import ExactSpec, exact
from parl.core.types import Array, Metrics, Rollout


class Shards(Protocol):
    """A replay in other processes."""

    @property
    def held(self) -> int:
        """Steps that it holds."""
        ...

    @property
    def room(self) -> int:
        """Steps that it can hold."""
        ...

    def add(self, reference: Any) -> None:
        """Has a rollout written."""
        ...

    def settle(self) -> None:
        """Waits until all is written."""
        ...

    def draw(self, updates: int, size: int) -> tuple[Any, Any] | None:
        """(what to report errors for, batches [updates, size, ...]); None where nothing is held."""
        ...

    def learned(self, sample: Any, td_error: Any) -> None:
        """Takes the errors [updates, size] of a sample."""
        ...

    def metrics(self) -> Mapping[str, float]: ...

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> None: ...

    def heed(self, stopped: Callable[[], bool]) -> None: ...

    def close(self) -> None: ...


class ShardedLearner(OffPolicy):
    """Learns from a replay in `shards` shards; `replay` is that of one of them."""

    @classmethod
    def of(cls, learner: OffPolicy, shards: int) -> "ShardedLearner":
        """The learner with its replay divided. Raises ConfigError where that cannot be."""
        replay = in_shards(learner.replay, shards)
        settings = learner.batch_size, learner.updates, learner.warmup, learner.in_turn
        return cls(learner.algorithm, replay, *settings)

    def room(self, rollout: Rollout) -> tuple[int, int]:
        """(steps of a rollout, steps that a shard holds). Raises ConfigError where none fits."""
        items = jax.eval_shape(self.algorithm.items, rollout)
        state = jax.eval_shape(lambda: self.replay.init(items, stride=rollout.steps.first.shape[1]))
        return state.count, state.capacity

    def init(
        self, algorithm_state: Any, rollout: Rollout, lead: tuple[int, ...] = ()
    ) -> LearnerState:
        """The state, without replay."""
        return LearnerState.fresh(algorithm_state, lead=lead)


class Sharded(Streamed):
    """Runs an asynchronous pool, a replay in other processes, and a learner.

    It learns while the shards hold as many steps as the warm-up stores, or all that they can. So
    one that was lost is filled before learning goes on. Rollouts are of a form.
    """

    def __init__(
        self,
        pool: StreamPool,
        shards: Shards,
        form: "Form",
        fragments: int,
        spec: EnvSpec,
        learner: ShardedLearner,
        seeds: Seeds,
        num_envs: int,
        length: int,
    ):
        self.shards, self.form = shards, form
        self.idle = 0  # iterations beyond the warm-up that learned nothing
        self.drawn: tuple[Any, Any] | None = None  # (sample, batches) to learn from
        super().__init__(pool, fragments, spec, learner, seeds, num_envs, length)
        self.enough = max(min(learner.warmup, shards.room), 1)
        structure = jax.tree.structure(self.data)
        improve, _, policy = host_programs(exact(spec), self.mesh, None, structure)
        see = observe_program(exact(spec), self.form, structure)
        own: Any = self  # in the place of the learner whose replay is in this process
        self.fill, self.learn_drawn = learn_from_host(own, improve, see, policy)
        self.learn = self.learn_if_drawn

    def collect(self, random: bool) -> list[Fragment]:
        """Collects the fragments of one iteration, and draws what it learns from."""
        fragments = []
        for arrival in islice(self.stream(random), self.fragments):
            self.shards.add(arrival.fragment.rollout.rollout)
            fragments.append(arrival.fragment)
        self.shards.settle()
        self.drawn = None
        if self.iteration >= self.warmup and self.shards.held >= self.enough:
            assert isinstance(self.learner, OffPolicy)
            self.drawn = self.shards.draw(self.learner.updates, self.learner.batch_size)
        return fragments

    def join(self, rollouts: list[Any]) -> Any:
        """The leaves that are here of the workers' rollouts, joined."""
        joined = zip(self.form.axes, *[kept.leaves for kept in rollouts], strict=True)
        return [np.concatenate(parts, axis) for axis, *parts in joined]

    def learn_if_drawn(
        self, learner: Any, state: LearnerState, rollout: Any, key: Array, iteration: Any
    ) -> tuple[LearnerState, Any, Metrics]:
        """Learns from what was drawn; only observes where nothing was."""
        if self.drawn is not None:
            return self.learn_drawn(learner, state, rollout, key, iteration)
        self.idle += 1
        return *self.fill(learner, state, rollout), {}

    # --- what `learn_from_host` asks of a learner -------------------------------------------

    def store(self, replay: Any, rollout: Any) -> Any:
        """The replay of the learner's state, which is none: rollouts are stored already."""
        return replay

    def sample(self, state: LearnerState, key: Array) -> tuple[Any, Any]:
        """What was drawn for this iteration."""
        assert self.drawn is not None
        return self.drawn

    def learned(self, state: LearnerState, index: Any, td_error: Any) -> LearnerState:
        """Tells the shards the errors of the sample."""
        if td_error is not None:
            self.shards.learned(index, td_error)
        return state

    # ----------------------------------------------------------------------------------------

    def updates_since(self, iteration: int) -> int:
        return super().updates_since(iteration) - updates_of(self.learner, self.idle)

    def stats(self) -> dict[str, float]:
        return super().stats() | {f"replay/{n}": x for n, x in self.shards.metrics().items()}

    def snapshot_workers(self) -> Snapshot:
        """The ledgers of the pool and of the shards; what these hold is lost on resume."""
        workers = super().snapshot_workers()
        return workers._replace(meta=workers.meta | {"shards": self.shards.state_dict()})

    def restore_workers(self, checkpoint: Checkpoint) -> None:
        super().restore_workers(checkpoint)
        self.shards.load_state_dict(checkpoint.meta["shards"])

    def heed(self, stopped: Callable[[], bool]) -> None:
        super().heed(stopped)
        self.shards.heed(stopped)

    def close(self) -> None:
        super().close()
        self.shards.close()


class Form(NamedTuple):
    """Which leaves of a rollout an algorithm observes, and the shapes of all; hashable."""

    structure: Any  # of the rollout's tree
    shapes: tuple[Any, ...]  # of all leaves
    observed: tuple[int, ...]
    axes: tuple[int, ...]  # of the environments in those that are observed

    @classmethod
    def of(cls, algorithm: Algorithm, spec: EnvSpec, length: int, num_envs: int) -> "Form":
        """The form of rollouts of [length, num_envs] steps."""
        state, rollout = shapes(algorithm, spec, length, num_envs)
        observed = read_by(algorithm.observe, state, rollout)
        steps = len(jax.tree.leaves(rollout.steps))
        leaves, structure = jax.tree.flatten(rollout)
        return cls(structure, tuple(leaves), observed, tuple(int(i < steps) for i in observed))

    def rollout(self, leaves: Sequence[Array]) -> Rollout:
        """A rollout with these leaves that are observed, and with zeros in the others."""
        known = dict(zip(self.observed, leaves, strict=True))
        whole = [
            known[i] if i in known else jnp.zeros(shape.shape, shape.dtype)
            for i, shape in enumerate(self.shapes)
        ]
        return jax.tree.unflatten(self.structure, whole)


def read_by(function: Callable[[Any, Any], Any], state: Any, tree: Any) -> tuple[int, ...]:
    """Which leaves of a tree, by number, the values of function(state, tree) depend on.

    Shapes suffice; more are named where parts of it are programs of their own.
    """
    jaxpr = jax.make_jaxpr(function)(state, tree).jaxpr
    read = {x for x in jaxpr.outvars if isinstance(x, Var)}
    for equation in reversed(jaxpr.eqns):
        if read & set(equation.outvars):
            read |= {x for x in equation.invars if isinstance(x, Var)}
    inputs = jaxpr.invars[len(jax.tree.leaves(state)) :]
    return tuple(i for i, x in enumerate(inputs) if x in read)


@shared
def observe_program(spec: ExactSpec, form: Form, structure: Any) -> Any:
    """(learner, state, leaves) -> the state after `observe`, for learners of a structure."""

    def see(learner: OffPolicy, state: LearnerState, leaves: list[Array]) -> LearnerState:
        return observe(learner.algorithm, state, form.rollout(leaves))

    return jax.jit(see, donate_argnums=1)
