"""What a cluster has, and who holds it: what `parl cluster status` tells.

Ray knows its drivers and their actors; what a run calls itself is noted in the cluster's key-value
store. All of it is read without joining the cluster.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import ray
from ray._private.state import GlobalState
from ray._raylet import (
    GcsClient,  # pyright: ignore[reportAttributeAccessIssue]
    GcsClientOptions,  # pyright: ignore[reportAttributeAccessIssue]
)
from ray.core.generated.gcs_pb2 import (
    ActorTableData,  # pyright: ignore[reportAttributeAccessIssue]
)
from ray.exceptions import RpcError

from parl.remote.lifeline import PATIENCE, SPACE, store

RUN = b"run "  # before the job's id, in the key of what a run calls itself


class Machine(NamedTuple):
    """A node of the cluster."""

    host: str
    total: float  # CPUs
    free: float


class Occupant(NamedTuple):
    """A program that works on the cluster."""

    name: str  # what it calls itself, else how it was called
    out: str  # the run's directory; empty where it is none
    host: str
    pid: int
    actors: int
    cpus: float  # held by its actors


def introduce(name: str, out: str) -> None:
    """Tells the cluster which run this program is. No failure to do so matters."""
    job = ray.get_runtime_context().get_job_id().encode()
    with suppress(RpcError, AttributeError):
        told = json.dumps([name, out]).encode()
        store().internal_kv_put(RUN + job, told, True, SPACE, timeout=PATIENCE)


def machines(state: GlobalState) -> list[Machine]:
    """The nodes that live."""
    total, free = state.total_resources_per_node(), state.available_resources_per_node()
    return [
        Machine(
            node["NodeManagerAddress"],
            total.get(node["NodeID"], {}).get("CPU", 0.0),
            free.get(node["NodeID"], {}).get("CPU", 0.0),
        )
        for node in state.node_table()
        if node["Alive"]
    ]


def draining() -> set[str]:
    """Nodes that are about to leave, as after a cloud's notice; Ray places nothing new on them."""
    with suppress(RpcError, AttributeError):  # AttributeError: of an older Ray
        return set(store().get_draining_nodes(timeout=PATIENCE))
    return set()


def living(state: GlobalState) -> list[dict[str, Any]]:
    """The programs that live, as Ray lists them, those that came first first."""
    jobs = [job for job in state.job_table() if not job["IsDead"]]
    return sorted(jobs, key=lambda job: job["StartTime"])


def occupants(state: GlobalState, client: Any) -> list[Occupant]:
    """The programs that live, those that came first first."""
    held, count = Counter[str](), Counter[str]()
    accessor = state._connect_and_get_accessor()
    for entry in accessor.get_actor_table(None, "ALIVE"):
        actor = ActorTableData.FromString(entry)
        held[actor.job_id.hex()] += actor.required_resources.get("CPU", 0.0)
        count[actor.job_id.hex()] += 1
    jobs = living(state)
    keys = [RUN + job["JobID"].encode() for job in jobs]
    told = client.internal_kv_multi_get(keys, SPACE, timeout=PATIENCE) if keys else {}
    found = []
    for key, job in zip(keys, jobs, strict=True):
        name, out = json.loads(told[key]) if key in told else (job["Entrypoint"], "")
        where = job["DriverIPAddress"], job["DriverPid"]
        found.append(Occupant(name, out, *where, count[job["JobID"]], held[job["JobID"]]))
    return found


@contextmanager
def state_of(address: str) -> Iterator[GlobalState]:
    """What Ray knows of the cluster at host:port."""
    state = GlobalState()
    state._initialize_global_state(GcsClientOptions.create(address, None, True, False))
    try:
        yield state
    finally:
        state.disconnect()


def look(address: str) -> tuple[list[Machine], list[Occupant]]:
    """The nodes of a cluster and what holds them. Raises what Ray raises."""
    with state_of(address) as state:
        return machines(state), occupants(state, GcsClient(address=address))
