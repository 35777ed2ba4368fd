"""What several learners save and tell as one: put together of their parts, and divided again.

Every learner has its share of the rollout workers, in their order.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from parl.agents.execution.protocol import Snapshot
from parl.core.checkpoint import Checkpoint, to_numpy
from parl.core.errors import CheckpointError, RemoteError
from parl.remote.ledger import Books

LEARNED = "learned"  # the entry of a rank's snapshot with the digest of what it has learned
LARGEST = ("lag_p50", "lag_p99", "fragment_seconds")  # of a pool's metrics; the others are counts


def together(shots: Sequence[Snapshot]) -> Snapshot:
    """The snapshot of all ranks: what was learned of the first one, and everyone's workers.

    Raises RemoteError where others have learned something else.
    """
    first = shots[0]
    tree, meta = dict(first.tree), dict(first.meta)
    digests = [shot.meta[LEARNED] for shot in shots]
    if odd := [rank for rank, found in enumerate(digests) if found != digests[0]]:
        raise RemoteError(
            f"learner {odd[0]} has other parameters than learner 0, as where machines compute "
            "differently; use one kind of machine for all learners."
        )
    del meta[LEARNED]
    if "workers" in tree:
        tree["workers"] = [worker for shot in shots for worker in shot.tree["workers"]]
        meta["workers"] = [worker for shot in shots for worker in shot.meta["workers"]]
    meta["pool"] = of_pools([shot.meta["pool"] for shot in shots])
    return first._replace(tree=tree, meta=meta, exact=all(shot.exact for shot in shots))


def digest(tree: Any) -> str:
    """A digest of all arrays in a tree."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        found.update(to_numpy(leaf).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def of_pools(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The state of one pool with the workers of all."""
    ledgers = [state["ledger"] for state in states]
    return {
        "ledger": {kind: added([ledger[kind] for ledger in ledgers]) for kind in ledgers[0]},
        "epochs": [epoch for state in states for epoch in state["epochs"]],
        "fragment_steps": states[0]["fragment_steps"],
    }


def added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sums of equally named counts."""
    return {name: sum(count[name] for count in counts) for name in counts[0]}


def stats_of_all(stats: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The metrics of all ranks' pools as one."""
    names = dict.fromkeys(name for each in stats for name in each)
    values = {name: [each[name] for each in stats if name in each] for name in names}
    return {name: (max if name in LARGEST else sum)(x) for name, x in values.items()}


def share_of(checkpoint: Checkpoint, rank: int, ranks: int) -> Checkpoint:
    """A checkpoint of all ranks as it is for one of them; the first one keeps the ledger.

    Raises CheckpointError where its workers do not divide among so many.
    """
    pool = checkpoint.meta["pool"]
    count = len(pool["epochs"])
    if count % ranks:
        raise CheckpointError(
            f"{checkpoint.path} was saved by {count} rollout workers, which do not divide among "
            f"{ranks} learners."
        )
    mine = slice(rank * (count // ranks), (rank + 1) * (count // ranks))
    ledger = Books().report() if rank else pool["ledger"]
    meta = checkpoint.meta | {"pool": pool | {"epochs": pool["epochs"][mine], "ledger": ledger}}
    arrays = {k: x for k, x in checkpoint.arrays.items() if not k.startswith("workers/")}
    if "workers" in meta:
        meta["workers"] = meta["workers"][mine]
        for i in range(len(meta["workers"])):
            own = checkpoint.under(f"workers/{mine.start + i}")
            arrays |= {f"workers/{i}/{name}": x for name, x in own.items()}
    return Checkpoint(checkpoint.path, meta, arrays)
