"""The processes of several learners: started together, asked together, ended together.

A rank that dies, or that stands still while all wait for it, takes the others with it: collectives
have no membership.
"""

import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from parl.core.errors import ClusterLost, RemoteError
from parl.envs.pulse import STARTUP, patience
from parl.remote.connect import cluster_lost, first_line, is_own, quiet, there, worker_env
from parl.remote.failure import Failure, revive
from parl.remote.lifeline import Sign, forget, heard, show
from parl.remote.process import Shared
from parl.remote.rank import MakeExecution, Place, Rank
from parl.remote.supervisor import LOOK, Terms

LONGEST_STARTUP = 8 * STARTUP
CLOSING = 5.0  # seconds that the ranks have to end their workers
NO_SIGN = Sign()
SHARE_OF_CPU = 0.001  # that a learner takes of a cluster of the run's own
OF_JAX = ("JaxRuntimeError", "XlaRuntimeError")  # what a collective raises where another rank died
LARGE = ("restore", "set_state")  # orders whose arguments are sent once for all ranks


class RankLost(Exception):
    """A rank died, or none gave a sign of life."""


class Actor(NamedTuple):
    """A rank's process."""

    handle: Any
    key: bytes  # under which it tells that it lives
    started: Any  # the ticket of its host, process id and meeting address


class Ranks:
    """`count` processes with so many `gpus` each; see `Terms` for how long they are waited for."""

    def __init__(self, count: int, gpus: int, terms: Terms):
        self.count, self.gpus, self.terms = count, gpus, terms
        self.actors: list[Actor] = []
        self.placement: Any = None
        self.warm = False  # whether nothing more has to be compiled
        self.startup = STARTUP  # seconds beyond the deadline until then
        self.longest = 0.0  # seconds between two signs of life
        self.printed: dict[bytes, int] = {}  # characters that were shown of each rank's
        self.kind = ""  # of their devices

    def start(self, make: MakeExecution) -> None:
        """Starts all ranks, each in its place, and has them make their executions."""
        if lost := cluster_lost():
            raise ClusterLost(f"{lost}.")
        scheduled = not is_own()
        cpus = 1.0 if scheduled else SHARE_OF_CPU
        self.placement = self.placement or self.place(cpus)
        driver = socket.gethostname(), os.getpid()
        self.terms.say(f"starting {self.count} learners")
        for rank in range(self.count):
            key = os.urandom(16).hex().encode()
            options = {
                "num_cpus": cpus,
                "num_gpus": self.gpus,
                "max_restarts": 0,
                "max_task_retries": 0,
                "runtime_env": learner_env(self.gpus),
                "scheduling_strategy": PlacementGroupSchedulingStrategy(self.placement, rank),
            }
            with quiet():
                kind: Any = ray.remote(**options)(Rank)
                handle = kind.remote(Place(rank, self.count, self.gpus, driver, key, not scheduled))
            self.actors.append(Actor(handle, key, handle.hello.remote()))
        hosts = self.wait([actor.started for actor in self.actors])
        self.kind = self.ask("start", hosts[0][2], Shared(ray.put(make)))[0]

    def place(self, cpus: float) -> Any:
        """A place for every rank. Raises RemoteError where the cluster has no room for them."""
        bundle = {"CPU": cpus} | ({"GPU": self.gpus} if self.gpus else {})
        placement = placement_group([bundle] * self.count, strategy="PACK")
        ready, begin = placement.ready(), time.monotonic()
        limit = min(self.terms.room, STARTUP) if is_own() else self.terms.room
        while not there([ready], LOOK):
            waited = time.monotonic() - begin
            if waited > 4 * LOOK:
                self.terms.say(f"waiting for room for {self.count} learners on the cluster")
            if lost := cluster_lost():
                raise ClusterLost(f"{lost}.")
            if waited > limit:
                remove_placement_group(placement)
                have = ray.cluster_resources()
                raise RemoteError(
                    f"no room for {self.count} learners: each needs {in_words(bundle)}, and the "
                    f"cluster has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs."
                )
        return placement

    def ask(self, name: str, *arguments: Any) -> list[Any]:
        """Every rank's answer to an order. Raises RankLost, and what was raised in a rank."""
        if not self.actors:
            raise RankLost("the learners were ended")
        sent = [ray.put(x) if name in LARGE else x for x in arguments]
        return self.wait([actor.handle.order.remote(name, *sent) for actor in self.actors])

    def wait(self, tickets: Sequence[Any]) -> list[Any]:
        """The answers to one ticket of each rank."""
        answers: dict[Any, Any] = {}
        since, beats = time.monotonic(), self.beats()
        while len(answers) < len(tickets):
            left = [ticket for ticket in tickets if ticket not in answers]
            ready = there(left, LOOK)
            for ticket in ready:
                answers[ticket] = self.answer(ticket, tickets.index(ticket))
            if ready:
                continue
            if lost := cluster_lost():
                raise ClusterLost(f"{lost}.")
            now, new = time.monotonic(), self.beats()
            if new != beats:
                self.longest = max(self.longest, now - since if self.warm else 0.0)
                since, beats = now, new
            more = 0.0 if self.warm else self.startup
            limit = patience(self.terms.deadline, self.longest) + more
            if now - since > limit:
                self.startup = min(self.startup + more, LONGEST_STARTUP)  # the machine may be busy
                raise RankLost(f"no learner gave a sign of life for {limit:.0f} s")
        return [answers[ticket] for ticket in tickets]

    def beats(self) -> list[int]:
        """The signs of life of each rank so far; shows what the ranks print."""
        signs = heard(actor.key for actor in self.actors)
        for rank, actor in enumerate(self.actors):
            sign = signs.get(actor.key, NO_SIGN)
            show(f"learner {rank}", sign, self.printed.get(actor.key, 0))
            self.printed[actor.key] = max(sign.printed, self.printed.get(actor.key, 0))
        return [signs.get(actor.key, NO_SIGN).beats for actor in self.actors]

    def answer(self, ticket: Any, rank: int) -> Any:
        """The answer to a ticket that is there."""
        try:
            answer = ray.get(ticket)
        except RayError as error:
            reason = first_line(error).rstrip(".")
            raise RankLost(f"learner {rank} died: {reason}") from error
        if isinstance(answer, Failure) and answer.kind in OF_JAX:
            raise RankLost(f"learner {rank}: {answer.message.partition(chr(10))[0]}")
        if isinstance(answer, Failure):
            self.end()
            raise revive(answer, f"learner {rank}")
        return answer

    def end(self) -> None:
        """Kills all ranks, whatever they are doing; their workers end with them."""
        for actor in self.actors:
            with suppress(RayError, ProcessLookupError):  # it has not started, or has ended
                host, pid, _ = ray.get(actor.started, timeout=0)
                if host == socket.gethostname():
                    os.kill(pid, signal.SIGKILL)
            if not cluster_lost():
                ray.kill(actor.handle, no_restart=True)
                forget(actor.key)
        self.actors, self.warm = [], False

    def close(self) -> None:
        """Ends all ranks after their workers; gives their places back."""
        if self.actors and not cluster_lost():
            tickets = [actor.handle.order.remote("close") for actor in self.actors]
            there(tickets, CLOSING, len(tickets))
        self.end()
        if self.placement is not None and not cluster_lost():
            remove_placement_group(self.placement)
        self.placement = None


def learner_env(gpus: int) -> dict[str, Any]:
    """The runtime environment of a learner: as that of a worker, with all threads and its cards."""
    env = worker_env("gpu" if gpus else "cpu")["env_vars"]
    kept = {name: x for name, x in env.items() if not name.endswith(("_THREADS", "NPROC"))}
    flags = os.environ.get("XLA_FLAGS", "").split()
    # each has one device; simulated ones are for a process of its own
    real = " ".join(flag for flag in flags if "host_platform_device_count" not in flag)
    return {"env_vars": kept | {"XLA_FLAGS": real}}


def in_words(bundle: Mapping[str, float]) -> str:
    """What a place has, such as 1 CPU and 1 GPU."""
    return " and ".join(f"{count:g} {kind}" for kind, count in bundle.items())
