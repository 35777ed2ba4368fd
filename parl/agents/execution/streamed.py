"""Asynchronous execution: learns from fragments as they arrive, from any worker.

Collecting and learning overlap, so that a rollout may be of an older policy than the newest: only
for algorithms with `tolerates_lag`. Which fragment comes first is up to the machine, and no run is
like another, but all of them have the same shapes and counts.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

from parl.agents.execution.collector import Fragment
from parl.agents.execution.pool import Pool
from parl.agents.execution.pooled import Pooled
from parl.agents.execution.protocol import Seeds, Snapshot
from parl.agents.learner import Learner
from parl.core.checkpoint import Checkpoint
from parl.core.sharding import Averaging
from parl.core.spec import EnvSpec


class StreamPool(Pool, Protocol):
    """Collectors that never wait for each other."""

    def stream(self, random: bool) -> Iterator[Any]:
        """Arrivals, each with a `fragment`, without end. Handing one out counts it as trained."""
        ...


class Streamed(Pooled):
    """Runs an asynchronous pool and a learner.

    One iteration learns from the next [length, num_envs] steps, which are `fragments` fragments,
    and publishes the new policy while workers collect with the one before.
    """

    def __init__(
        self,
        pool: StreamPool,
        fragments: int,
        spec: EnvSpec,
        learner: Learner,
        seeds: Seeds,
        num_envs: int,
        length: int,
        data: Any = (),
        averaging: Averaging | None = None,
    ):
        self.stream, self.fragments = pool.stream, fragments
        super().__init__(pool, spec, learner, seeds, num_envs, length, data, averaging)

    def collect(self, random: bool) -> list[Fragment]:
        return [arrival.fragment for arrival in islice(self.stream(random), self.fragments)]

    def snapshot_workers(self) -> Snapshot:
        """The ledger; fragments in flight are lost on resume, and the ledger counts them."""
        return Snapshot({}, {"pool": self.pool.state_dict()}, exact=False)

    def restore_workers(self, checkpoint: Checkpoint) -> None:
        """Continues the ledger; all workers start from fresh seeds."""
        self.pool.load_state_dict(checkpoint.meta["pool"])
