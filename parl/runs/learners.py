"""From the parts of a run to a group of learners, and to what each of them runs."""

from collections.abc import Callable
from functools import partial

from parl.agents.execution.collector import Collector
from parl.agents.execution.pooled import Pooled
from parl.agents.execution.protocol import Execution
from parl.core.checkpoint import Checkpoint
from parl.remote.group import Group
from parl.remote.ranks import Ranks
from parl.remote.supervisor import Terms
from parl.runs.build import Parts
from parl.runs.executions import collectors_of, with_actors
from parl.runs.layout import run_seeds


def group_of(
    parts: Parts,
    say: Callable[[str], None],
    warn: Callable[[str], None],
    latest: Callable[[], Checkpoint | None],
) -> Execution:
    """The learners of a run, ready to advance; see `make_execution`."""
    config, layout = parts.config, parts.layout
    averaging = config.averaging
    return Group(
        Ranks(config.learners, config.learner_gpus, Terms(config.deadline, say=say)),
        partial(learner_of_rank, parts),
        parts.learner,
        run_seeds(config),
        layout.envs_per_iteration * parts.recipe.length,
        rounds=1 if averaging is None else averaging.updates,
        latest=latest,
        warn=warn,
    )


def learner_of_rank(parts: Parts, rank: int) -> Pooled:
    """The execution of one rank, with its share of the rollout workers; runs in its process."""
    share = parts.layout.workers // parts.config.learners
    make = collectors_of(parts, parts.factory.vector)
    return with_actors(parts, partial(of_rank, make, rank, share, parts.config.learners), share)


def of_rank(
    make: Callable[[int], Collector], rank: int, share: int, ranks: int, worker: int
) -> Collector:
    """The collector of a rank's worker, which is one of all ranks' workers."""
    return make(among_all(worker, rank, share, ranks))


def among_all(worker: int, rank: int, share: int, ranks: int) -> int:
    """The index among the workers of all ranks of a rank's worker, of which it has `share`.

    Modulo the number of all that is its place; indices beyond, of workers that start afresh, remain
    different.
    """
    round, place = divmod(worker, share)
    return (round * ranks + rank) * share + place
