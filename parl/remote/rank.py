"""One of several learners: a Ray actor that runs its part of an execution.

All ranks of a group get the same orders in the same sequence, so that they meet in every
collective. Between orders they stand still.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import ray
from jax._src import distributed, xla_bridge
from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage]

from parl.agents.execution.pooled import Pooled
from parl.agents.execution.protocol import Report, Snapshot
from parl.agents.learner import LearnerState, without_rows
from parl.core.checkpoint import Checkpoint, is_key, to_numpy
from parl.core.errors import ConfigError
from parl.core.sharding import here
from parl.envs import pulse
from parl.remote.connect import LOOPBACK, adopt
from parl.remote.failure import describe
from parl.remote.lifeline import Teller
from parl.remote.process import Shared, end_with
from parl.remote.shares import LEARNED, digest, share_of

MakeExecution = Callable[[int], Pooled]  # of a rank, within its process
JOINING = 120  # seconds that the ranks have to find each other


class Place(NamedTuple):
    """A rank among all, and who watches it."""

    rank: int
    ranks: int
    gpus: int  # of each
    driver: tuple[str, int]  # host and process id
    key: bytes  # under which it tells that it lives
    own_cluster: bool  # whether the cluster is the driver's own


class Told(NamedTuple):
    """What a rank says after some iterations."""

    report: Report
    discarded: tuple[Any, Any]  # updates, all and the last in a row
    stats: dict[str, float]  # of its pool


class Rank:
    """Runs in an actor, in its main thread; answers with Failure where something raises."""

    def __init__(self, place: Place):
        adopt(place.own_cluster)
        self.place = place
        self.execution: Pooled | None = None
        self.teller = Teller(place.key, stepping=lambda: self.execution is not None)
        threading.Thread(target=end_with, args=place.driver, daemon=True).start()

    def hello(self) -> tuple[str, int, str]:
        """Host, process id, and an address at which the ranks can meet."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind((host, 0))
            return socket.gethostname(), os.getpid(), f"{host}:{free.getsockname()[1]}"

    def order(self, name: str, *arguments: Any) -> Any:
        """Does what the method of this name says."""
        self.teller.busy = True
        try:
            return getattr(self, name)(*arguments)
        except (Exception, SystemExit) as error:
            return describe(error)
        finally:
            self.teller.busy = False

    # --- orders -------------------------------------------------------------------------------

    def start(self, meeting: str, make: Shared) -> str:
        """Joins the other ranks and has `make`, a MakeExecution, make the execution.

        Only then, as what it holds may be arrays, and JAX is to know all devices first. Returns the
        kind of the device.
        """
        place = self.place
        join(meeting, place)
        if len(jax.local_devices()) != max(place.gpus, 1):
            raise ConfigError(
                f"learner {place.rank} has {len(jax.local_devices())} devices, not "
                f"{max(place.gpus, 1)}: XLA_FLAGS must not ask for more."
            )
        pulse.beat()
        maker: Any = ray.get(make.reference)
        self.execution = maker(place.rank)
        pulse.beat()
        return jax.devices()[0].device_kind

    def advance(self, iterations: int) -> Told:
        """Runs some iterations, each of which is a sign of life."""
        report = self.running.advance(iterations)
        state = here(self.running.state)
        discarded = np.asarray(state.skipped), np.asarray(state.bad_in_row)
        return Told(report, discarded, self.running.pool.metrics())

    def snapshot(self, replay: bool) -> Snapshot:
        """The state of the run; of its workers alone where this is not the first rank."""
        run = self.running
        shot = run.snapshot_workers() if self.place.rank else run.snapshot(replay)
        learned = shot.meta | {LEARNED: digest(run.algorithm_state)}
        return shot._replace(tree=sendable(shot.tree), meta=learned)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint of all ranks."""
        self.running.restore(share_of(checkpoint, self.place.rank, self.place.ranks))

    def policy(self) -> Any:
        """The current policy, of the first rank."""
        return None if self.place.rank else sendable(here(self.running.policy))

    def state(self) -> Any:
        """The learner's state without replay's rows, of the first rank."""
        if self.place.rank:
            return None
        return sendable(without_rows(here(self.running.state), replay=False)[0])

    def set_state(self, state: LearnerState) -> None:
        """Goes on with a state as `state` gives it; replay stays."""
        own = here(self.running.state).replay
        state = jax.tree.map(jnp.asarray, state.replace(replay=None))
        self.running.set_state(state.replace(replay=own))

    def change(self, parameters: dict[str, Any]) -> None:
        """Has the environments go on with these parameters."""
        self.running.change(parameters)

    def close(self) -> None:
        """Ends the workers of this rank."""
        if self.execution is not None:
            self.execution.close()

    @property
    def running(self) -> Pooled:
        """The execution."""
        assert self.execution is not None
        return self.execution


def join(meeting: str, place: Place) -> None:
    """Makes this process one of the group's: on GPUs it takes those that Ray assigned."""
    host = meeting.rpartition(":")[0]
    if not place.gpus:
        by_gloo(host)
    jax.config.update("jax_enable_preemption_service", False)  # which would catch SIGTERM
    jax.distributed.initialize(
        meeting,
        num_processes=place.ranks,
        process_id=place.rank,
        local_device_ids=list(range(max(place.gpus, 1))),
        initialization_timeout=JOINING,
        coordinator_bind_address=meeting,
    )


def by_gloo(meeting_host: str) -> None:
    """Has collectives of CPUs go by gloo, on loopback where the ranks meet there.

    By itself gloo listens on whatever address this host's name has.
    """
    host = "127.0.0.1" if meeting_host in LOOPBACK else ray.util.get_node_ip_address()

    def client() -> Any:
        joined = distributed.global_state.client
        make = partial(_jax.make_gloo_tcp_collectives, distributed_client=joined, hostname=host)
        return xla_bridge.make_cpu_client(collectives=calmly(make))

    xla_bridge.register_backend_factory("cpu", client, priority=0, fail_quietly=False)


def calmly(make: Callable[[], Any]) -> Any:
    """What `make` returns; the threads that it begins have the lowest priority on Linux.

    Gloo's thread is never at rest while a message of a peer waits for this rank to come to the same
    collective: it would take up to half of a core from the computation that is waited for.
    """

    def last_in_line() -> None:
        if sys.platform == "linux":  # where priorities are of threads, and threads inherit them
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)

    with ThreadPoolExecutor(1, initializer=last_in_line) as thread:
        return thread.submit(make).result()


def sendable(tree: Any) -> Any:
    """A tree with numpy arrays in place of those of jax; random keys stay."""
    return jax.tree.map(lambda x: x if is_key(x) else to_numpy(x), tree)
