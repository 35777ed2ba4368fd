"""Where a worker lives: in a Ray actor or, for comparison and debugging, in this process.

A process answers requests in order. `submit` gives a ticket, `wait` says which tickets are
answered, `answer` gives the reply or raises `Died`.
"""

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from parl.core.checkpoint import is_alive
from parl.core.errors import ClusterLost
from parl.core.types import Rollout
from parl.remote.connect import (
    cluster_lost,
    cluster_lost_now,
    ensure_connected,
    first_line,
    free_cpus,
    is_own,
    own_node,
    quiet,
    there,
    worker_env,
)
from parl.remote.failure import Failure
from parl.remote.lifeline import Sign, Teller, forget, halt, heard
from parl.remote.occupants import draining
from parl.remote.sendable import unsendable
from parl.remote.worker import Collect, MakeWorker, Reply, Request, Weights, Worker

TRANSFER = 60.0  # seconds that an answer which is there may take to get here
SMALL = 65_536  # bytes of a policy that is cheaper sent along than shared


class Died(Exception):
    """A worker's process is gone."""


class Process(Protocol):
    """One worker, wherever it lives."""

    started: Any  # the ticket that is answered when it runs
    key: bytes  # what it tells of itself is kept under this

    def submit(self, request: Request) -> Any: ...

    def publish(self, weights: Weights) -> None: ...

    def kill(self) -> None: ...


class Backend(Protocol):
    """How to start processes and hear from them."""

    scheduled: bool  # whether a process may have to wait for a machine

    def start(self, make_worker: MakeWorker, envs_per_worker: int) -> Process: ...

    def store(self, policy: Any) -> Any:
        """Puts the policy where workers can fetch it from; returns the handle."""
        ...

    def wait(self, tickets: list[Any], timeout: float) -> list[Any]:
        """The answered tickets, after at most `timeout` seconds without any."""
        ...

    def answer(self, ticket: Any) -> Reply: ...

    def lost(self) -> str:
        """What of the cluster has ended so that nothing can go on; empty where nothing has."""
        ...

    def signs(self, processes: list[Process]) -> dict[bytes, Sign]:
        """What the processes told last, by their keys."""
        ...

    def halt(self, processes: list[Process]) -> None:
        """Has processes break off the fragments under way."""
        ...

    def room(self) -> tuple[float, float]:
        """CPUs for workers: (free, all)."""
        ...

    def leaving(self, processes: list[Process]) -> tuple[set[bytes], bool]:
        """Keys of the processes whose machines are about to leave; whether this one is."""
        ...


class Ticket:
    """A reply that is there already; None if the worker died of the request."""

    def __init__(self, reply: Reply | None):
        self.reply = reply


class InlineProcess:
    """A worker in this process; it works when asked."""

    def __init__(self, worker: Worker):
        self.worker, self.dead = worker, False
        self.started, self.key = Ticket(Reply()), b""

    def submit(self, request: Request) -> Any:
        fault = request.fault.kind if isinstance(request, Collect) and request.fault else None
        self.dead = self.dead or fault in ("kill", "hang")
        return Ticket(None if self.dead else self.worker.handle(request))

    def publish(self, weights: Weights) -> None:
        self.worker.publish(weights)

    def kill(self) -> None:
        self.worker.discard()


class Inline:
    """Workers in this process, one after the other."""

    scheduled = False

    def start(self, make_worker: MakeWorker, envs_per_worker: int) -> Process:
        return InlineProcess(Worker(make_worker, envs_per_worker))

    def store(self, policy: Any) -> Any:
        return policy

    def wait(self, tickets: list[Any], timeout: float) -> list[Any]:
        return tickets

    def answer(self, ticket: Any) -> Reply:
        if ticket.reply is None:
            raise Died("it was killed")
        return ticket.reply

    def lost(self) -> str:
        return ""

    def signs(self, processes: list[Process]) -> dict[bytes, Sign]:
        return {}

    def halt(self, processes: list[Process]) -> None:
        """Nothing is under way while anybody can ask."""

    def room(self) -> tuple[float, float]:
        return math.inf, math.inf

    def leaving(self, processes: list[Process]) -> tuple[set[bytes], bool]:
        return set(), False


class Shared(NamedTuple):
    """A policy in Ray's object store; inside a request, so that only who needs it pulls it."""

    reference: Any


@dataclass(frozen=True)
class Stored:
    """A rollout in Ray's object store."""

    reference: Any
    nbytes: int


class Place(NamedTuple):
    """Where a worker is."""

    host: str
    pid: int
    node: str  # Ray's name of it


class RayWorker(Worker):
    """A worker in an actor, in its main thread: there environments may handle signals and draw."""

    def __init__(
        self, make_worker: MakeWorker, envs_per_worker: int, driver: tuple[str, int], key: bytes
    ):
        super().__init__(make_worker, envs_per_worker)
        self.teller = Teller(key, lambda: self.stepping)
        # acting is a small program at every step: handing it to another thread costs more than it
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        watch = threading.Thread(target=end_with, args=driver, daemon=True)
        watch.start()

    def handle(self, request: Request) -> Reply:
        self.teller.busy = True
        try:
            return super().handle(request)
        finally:
            self.teller.busy = False
            if not isinstance(request, Collect) or self.collector is None:
                self.teller.tell()  # at beginnings, failures and ends what is printed counts

    def is_halted(self) -> bool:
        return self.teller.halted

    def hello(self) -> Place:
        return Place(socket.gethostname(), os.getpid(), own_node())

    def fetch(self, handle: Any) -> Any:
        return ray.get(handle.reference) if isinstance(handle, Shared) else handle

    def keep(self, rollout: Rollout) -> Any:
        return Stored(ray.put(rollout), sum(leaf.nbytes for leaf in jax.tree.leaves(rollout)))


class QueuedRayWorker(RayWorker):
    """One with fragments that wait: it works in a second thread, while others take in weights."""

    @ray.method(concurrency_group="control")
    def publish(self, weights: Weights) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().publish(weights)

    @ray.method(concurrency_group="control")
    def hello(self) -> Place:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().hello()


def end_with(host: str, driver: int) -> None:
    """Ends this process when the driver's has ended, or the one that started this."""
    parent = os.getppid()
    while os.getppid() == parent and (host != socket.gethostname() or is_alive(driver)):
        time.sleep(1)
    os._exit(1)


class RayProcess:
    """A worker in an actor that Ray does not restart: that is the supervisor's business."""

    def __init__(
        self, kind: type, options: dict[str, Any], make_worker: MakeWorker, envs_per_worker: int
    ):
        driver, self.key = (socket.gethostname(), os.getpid()), os.urandom(16).hex().encode()
        with quiet():
            actor: Any = ray.remote(**options)(kind)
            self.actor = actor.remote(make_worker, envs_per_worker, driver, self.key)
        self.started = self.actor.hello.remote()

    def submit(self, request: Request) -> Any:
        return self.actor.handle.remote(request)

    def publish(self, weights: Weights) -> None:
        self.actor.publish.remote(weights)

    def kill(self) -> None:
        """Ends the process whatever it is doing, also where it cannot answer Ray."""
        end(self.actor, place_of(self))
        if not cluster_lost():  # which Ray would wait for
            forget(self.key)


def end(actor: Any, place: Place | None) -> None:
    """Ends an actor's process, also where it cannot answer Ray but is on this machine."""
    if place is not None and place.host == socket.gethostname():
        with suppress(ProcessLookupError):  # it has ended
            os.kill(place.pid, signal.SIGKILL)
    if not cluster_lost():  # which Ray would wait for
        ray.kill(actor, no_restart=True)


def reason(error: Exception) -> str:
    """Why a process is gone: Ray's first line, or what was raised while its actor was made."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not said or "creation task" not in said[0]:
        return first_line(error)
    hint = "; --worker-files sends modules along" if "No module named" in said[-1] else ""
    return f"it could not be made on its machine: {said[-1]}{hint}"


def place_of(process: Any) -> Place | None:
    """Where a process is; None where that is not known, as before it has started."""
    with suppress(RayError):
        found: Any = ray.get(process.started, timeout=0)
        return found
    return None


def actor_options(scheduled: bool, env: Mapping[str, str] | None) -> dict[str, Any]:
    """Ray's options of an actor that is started again by us alone.

    A cluster of our own takes any number of them; a shared one, which is `scheduled`, by its CPUs.
    """
    return {
        "num_cpus": int(scheduled),
        "scheduling_strategy": "SPREAD" if scheduled else "DEFAULT",
        "runtime_env": worker_env(more=env),
        "max_restarts": 0,
        "max_task_retries": 0,
    }


def answered(tickets: list[Any], timeout: float) -> list[Any]:
    """The answered tickets, after at most `timeout` seconds without any.

    Ray says first which one is there; then a second look finds all that are.
    """
    if timeout:
        first = there(tickets, timeout)
        if not first or len(first) == len(tickets):
            return first
    return there(tickets, 0, len(tickets))


class OnRay:
    """Workers in Ray actors; `queued` ones have fragments that wait while they collect another."""

    def __init__(self, queued: bool, env: Mapping[str, str] | None = None) -> None:
        ensure_connected()
        self.scheduled, self.kind = not is_own(), QueuedRayWorker if queued else RayWorker
        self.options: dict[str, Any] = {
            **actor_options(self.scheduled, env),
            # with groups of calls Ray leaves the main thread idle
            "concurrency_groups": {"control": 1} if queued else None,
        }

    def start(self, make_worker: MakeWorker, envs_per_worker: int) -> Process:
        if lost := cluster_lost_now():
            raise ClusterLost(f"{lost}.")
        try:
            return RayProcess(self.kind, self.options, make_worker, envs_per_worker)
        except RayError as error:
            raise ClusterLost(first_line(error)) from error
        except Exception as error:
            raise unsendable(make_worker, error) from error

    def store(self, policy: Any) -> Any:
        if sum(leaf.nbytes for leaf in jax.tree.leaves(policy)) < SMALL:
            return policy
        if lost := self.lost():
            raise ClusterLost(lost)
        try:
            return Shared(ray.put(policy))
        except RayError as error:
            raise ClusterLost(first_line(error)) from error

    def wait(self, tickets: list[Any], timeout: float) -> list[Any]:
        return answered(tickets, timeout)

    def lost(self) -> str:
        return cluster_lost()

    def signs(self, processes: list[Process]) -> dict[bytes, Sign]:
        return heard(process.key for process in processes)

    def halt(self, processes: list[Process]) -> None:
        halt(process.key for process in processes)

    def room(self) -> tuple[float, float]:
        return free_cpus()

    def leaving(self, processes: list[Process]) -> tuple[set[bytes], bool]:
        nodes = draining() if self.scheduled else set()
        if not nodes:
            return set(), False
        places = {process.key: place_of(process) for process in processes}
        keys = {key for key, place in places.items() if place and place.node in nodes}
        return keys, own_node() in nodes

    def answer(self, ticket: Any) -> Reply:
        try:
            reply = ray.get(ticket, timeout=TRANSFER)
        except RayTaskError as error:
            return Reply(failure=Failure("RemoteError", str(error.cause), str(error)))
        except (RayError, GetTimeoutError) as error:
            raise Died(reason(error)) from error
        return reply if isinstance(reply, Reply) else Reply()
