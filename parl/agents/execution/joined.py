"""Runs with hyperparameters of their own as rows of one program, along the axis of the seeds.

Runs that are alike in all but numbers are joined, advance together, and go on alone whenever they
like. Batched arithmetic rounds differently: a joined run is not the single run bit by bit.
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.agents.execution.collector import Collector
from parl.agents.execution.ended import Ended
from parl.agents.execution.fused import Fused, run_axes, run_program
from parl.agents.execution.pool import InlinePool
from parl.agents.execution.pooled import Pooled, learning_programs
from parl.agents.execution.protocol import Discarded, Report, Seeds
from parl.agents.learner import OffPolicy, seed_axes
from parl.core.checkpoint import is_key
from parl.core.programs import as_data
from parl.core.spec_json import exact

NEVER: Callable[[], bool] = lambda: False


def kind_of(execution: Any) -> Any:
    """What runs have in common that can be joined; None for one that cannot be."""
    form = jax.tree.structure(as_data(execution.learner)), execution.seeds.form
    if isinstance(execution, Fused):
        size = execution.steps_per_iteration, execution.iteration, execution.warmup
        return (Fused, execution.env, *size, *form, shapes(execution.run))
    is_inline = type(execution) is Pooled and isinstance(execution.pool, InlinePool)
    if not is_inline or (isinstance(execution.learner, OffPolicy) and execution.learner.on_host):
        return None
    collector = collector_of(execution)
    if collector.begun is not None or execution.take is not None:
        return None
    where = execution.iteration, execution.warmup, collector.time
    return (Pooled, exact(execution.spec), *where, *form, shapes(execution.state))


def shapes(state: Any) -> Any:
    """The structure of a state, the forms of its arrays, and its numbers that rows share."""
    leaves, structure = jax.tree.flatten(state)
    learner = getattr(state, "learner", state)
    ring = () if learner.replay is None else (int(learner.replay.cursor), int(learner.replay.size))
    return structure, tuple((x.shape, str(x.dtype)) for x in leaves), ring


def joined(executions: Sequence[Any], in_turn: bool = False) -> Any:
    """One execution of several of one kind; its rows are theirs, one behind the other.

    `in_turn` has the rows updated one after the other. Theirs are not changed, but for the
    environments of host execution, which are then stepped by both.
    """
    first = executions[0]
    seeds = joined_seeds([each.seeds for each in executions])
    each_row = [each.learner for each in executions for _ in each.seeds.values]
    run = copy.copy(first)
    run.learner, run.seeds, run.mesh = seeds.stack(each_row).replace(in_turn=in_turn), seeds, None
    run.data = as_data(run.learner)
    if isinstance(first, Fused):
        join_fused(run, executions)
    else:
        join_pooled(run, executions)
    return run


def joined_seeds(parts: Sequence[Seeds]) -> Seeds:
    """The seeds of all rows."""
    values = tuple(value for part in parts for value in part.values)
    return Seeds(values, vmapped=True, own_learners=True)


def join_fused(run: Fused, executions: Sequence[Fused]) -> None:
    """Gives a joined run its state and its programs."""
    first = executions[0]
    state = stacked([each.run for each in executions], run_axes(first.state), first.seeds)
    run.places = run.over_seeds(state.learner)
    run.run = run.place(state)
    length = first.steps_per_iteration // first.run.actor.first.shape[-1]
    kind = run.env, length, run.seeds.form, None, run.places, jax.tree.structure(run.data)
    run.programs = {fill: run_program(fill, *kind) for fill in (True, False)}


def join_pooled(run: Pooled, executions: Sequence[Pooled]) -> None:
    """Gives a joined run its state, its programs and its collector."""
    first = executions[0]
    run.state = stacked([each.state for each in executions], seed_axes(first.state), first.seeds)
    run.keys = stacked([each.keys for each in executions], 0, first.seeds)
    run.fill, run.learn = learning_programs(run.learner, run.spec, run.seeds)
    collector = joined_collector(
        [collector_of(each) for each in executions], run.learner.algorithm, run.seeds
    )
    assert isinstance(first.pool, InlinePool)
    run.pool = InlinePool([collector], first.pool.length)
    run.pool.publish(run.policy, run.iteration)


def collector_of(execution: Pooled) -> Collector:
    """The collector of a run on the host."""
    assert isinstance(execution.pool, InlinePool)
    return execution.pool.collectors[0]


def joined_collector(parts: Sequence[Collector], algorithm: Any, seeds: Seeds) -> Collector:
    """A collector that goes on where all of them are, with their environments."""
    first = parts[0]
    rows = partial(stacked, axes=0, seeds=first.seeds)
    made = copy.copy(first)
    made.envs, made.seeds = [env for part in parts for env in part.envs], seeds
    for name in ROWS:
        setattr(made, name, rows([getattr(part, name) for part in parts]))
    made.told = copy.copy(first.told)
    made.told.values = rows([part.told.values for part in parts])
    made.stopped = NEVER
    made.use(algorithm)
    return made


ROWS = ("key", "memory", "obs", "first", "returns", "lengths")  # of a collector


def stacked(trees: Sequence[Any], axes: Any, seeds: Seeds) -> Any:
    """The rows of all trees, of runs with these seeds; of leaves without an axis the first's."""
    combine = np.concatenate if seeds.vmapped else np.stack

    def join(*leaves: Any) -> Any:
        if is_key(leaves[0]):
            words = jnp.asarray(combine([np.asarray(jax.random.key_data(x)) for x in leaves]))
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaves[0]))
        return combine([np.asarray(x) for x in leaves])

    along = lambda axis, *parts: parts[0] if axis is None else jax.tree.map(join, *parts)
    return jax.tree.map(along, axes, *trees, is_leaf=lambda axis: axis is None)


# --- from a joined run to one of its rows ---------------------------------------------------------


class Rows:
    """Which rows of a joined run are those of one of the runs in it."""

    def __init__(self, start: int, seeds: Seeds):
        self.where: Any = slice(start, start + len(seeds.values)) if seeds.vmapped else start

    def of(self, tree: Any, axes: Any = 0) -> Any:
        """Their part of a tree of arrays, as arrays of its own."""
        along = lambda axis, part: part if axis is None else jax.tree.map(self.one, part)
        return jax.tree.map(along, axes, tree, is_leaf=lambda axis: axis is None)

    def one(self, x: Any) -> Any:
        """Their part of an array."""
        if is_key(x):
            return x[self.where]
        return np.array(np.asarray(x)[self.where])

    def report(self, whole: Report) -> Report:
        """Their part of a report."""
        metrics = {name: self.one(x) for name, x in whole.metrics.items()}
        return whole._replace(metrics=metrics, ended=Ended(*map(self.one, whole.ended)))

    def discarded(self, run: Any) -> Discarded:
        """Their part of the updates that came to nothing."""
        return Discarded(*map(self.one, run.discarded))


def take_back(execution: Any, run: Any, rows: Rows) -> None:
    """Has a run go on from where its rows of a joined run are."""
    execution.iteration = run.iteration
    if isinstance(execution, Fused):
        execution.run = execution.place(rows.of(run.run, run_axes(run.state)))
        return
    execution.state = execution.place(rows.of(run.state, seed_axes(run.state)))
    own, collector = collector_of(execution), collector_of(run)
    for name in ROWS:
        setattr(own, name, rows.of(getattr(collector, name)))
    own.told.values, own.time = rows.of(collector.told.values), collector.time
    execution.pool.publish(execution.policy, execution.iteration)
