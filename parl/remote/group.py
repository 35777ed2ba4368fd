"""Several learners as one execution: every rank is an actor, and this side alone decides.

The ranks of a group meet in collectives, which have no membership: one that is stuck holds up all
of them for ever. So nothing is decided there. Each order goes to all ranks at once, a sign of life
is expected of some rank within a deadline, and where one dies or none gives a sign all are ended
and a new group begins at the last checkpoint. It repeats the orders since then, so that whoever
drives the run need not know: where workers continue exactly, all numbers are the same.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from parl.agents.execution.ended import nothing, total
from parl.agents.execution.protocol import (
    Devices,
    Discarded,
    Report,
    Seeds,
    Snapshot,
    updates_of,
    warmup_iterations,
)
from parl.agents.learner import Learner, LearnerState
from parl.core.checkpoint import Checkpoint
from parl.core.errors import CheckpointError, ClusterLost, ConfigError, RemoteError
from parl.core.types import Rollout
from parl.envs.protocol import VectorEnv
from parl.envs.pulse import DEATHS, STARTUP, patience
from parl.remote.connect import cluster_lost, first_line, is_own, quiet, worker_env
from parl.remote.failure import Failure, revive
from parl.remote.lifeline import Sign, forget, heard, show
from parl.remote.process import Shared
from parl.remote.rank import MakeExecution, Place, Rank, Told
from parl.remote.shares import stats_of_all, together
from parl.remote.supervisor import LOOK, WAIT_FOR_CPUS_S

CLOSING = 5.0  # seconds that the ranks have to end their workers
NO_SIGN = Sign()
SHARE_OF_CPU = 0.001  # that a learner takes of a cluster of the run's own


class RankLost(Exception):
    """A rank died, or none gave a sign of life."""


class Order(NamedTuple):
    """What all ranks are told to do."""

    iteration: int  # when
    name: str
    arguments: tuple[Any, ...]


class Actor(NamedTuple):
    """A rank's process."""

    handle: Any
    key: bytes  # under which it tells that it lives
    started: Any  # the ticket of its host, process id and meeting address


class Group:
    """`ranks` learners that run one execution together; see `Execution`.

    `make(rank)` makes a rank's part, in its process: a Pooled with its share of the workers.
    `rounds` is how many of its iterations are one here. `latest` gives the run's newest checkpoint,
    if there is one. `say` is told what is waited for, `warn` what was lost.
    """

    def __init__(
        self,
        make: MakeExecution,
        ranks: int,
        learner: Learner,
        seeds: Seeds,
        steps: int,
        rounds: int = 1,
        gpus: int = 0,
        deadline: float | None = None,
        latest: Callable[[], Checkpoint | None] = lambda: None,
        say: Callable[[str], None] = lambda text: None,
        warn: Callable[[str], None] = lambda text: None,
    ):
        self.make, self.ranks, self.gpus, self.rounds = Shared(ray.put(make)), ranks, gpus, rounds
        self.learner, self.seeds, self.mesh = learner, seeds, None  # its devices are the ranks'
        self.steps_per_iteration = rounds * steps
        self.warmup = -(-warmup_iterations(learner, steps) // rounds)
        self.steps, self.deadline = steps, deadline
        self.latest, self.say, self.warn = latest, say, warn
        self.iteration, self.restarts, self.deaths = 0, 0, 0
        self.base: Checkpoint | None = None  # that the run was resumed from
        self.done: list[Order] = []  # since the run began or was resumed, that change something
        self.told = Told(Report({}, nothing()), (0, 0), {})
        self.actors: list[Actor] = []
        self.placement: Any = None
        self.warm, self.longest = False, 0.0  # seconds between two signs of life
        self.printed: dict[bytes, int] = {}  # characters that were shown of each rank's
        self.kind = ""  # of device
        try:
            self.begin()
        except BaseException:
            self.close()
            raise

    # --- orders -------------------------------------------------------------------------------

    def advance(self, iterations: int) -> Report:
        answers: list[Told] = self.order("advance", iterations * self.rounds)
        self.iteration, self.deaths = self.iteration + iterations, 0
        first = answers[0]
        self.warm = self.warm or bool(first.report.metrics)  # nothing more will compile
        report = Report(first.report.metrics, total([told.report.ended for told in answers]))
        self.told = Told(report, first.discarded, stats_of_all([told.stats for told in answers]))
        return report

    @property
    def policy(self) -> Any:
        return self.order("policy")[0]

    @property
    def state(self) -> LearnerState:
        """The learner's state, without the rows of replay."""
        return self.order("state")[0]

    def set_state(self, state: LearnerState) -> None:
        self.order("set_state", state)

    @property
    def algorithm_state(self) -> Any:
        return self.state.algorithm_state

    def change(self, parameters: Mapping[str, Any]) -> None:
        self.order("change", dict(parameters))

    def snapshot(self, replay: bool = True) -> Snapshot:
        return together(self.order("snapshot", replay))

    def restore(self, checkpoint: Checkpoint) -> None:
        iteration = int(checkpoint.arrays["run/iteration"])
        if iteration % self.rounds:
            raise CheckpointError(
                f"{checkpoint.path} lies between two averages of the parameters; go on from it "
                "with the --sync that it was saved with."
            )
        self.done = [order for order in self.done if order.name == "change"][-1:]
        self.order("restore", checkpoint)
        self.base, self.iteration = checkpoint, iteration // self.rounds

    def order(self, name: str, *arguments: Any) -> list[Any]:
        """Every rank's answer, in their order; after a death of one, that of a new group."""
        order = Order(self.iteration, name, arguments)
        while True:
            try:
                answers = self.ask(order)
                break
            except RankLost as lost:
                self.recover(str(lost))
        if name in CHANGING:
            self.done.append(order)
        return answers

    def ask(self, order: Order) -> list[Any]:
        """Every rank's answer. Raises RankLost, and what was raised in a rank."""
        sent = [ray.put(x) if order.name in LARGE else x for x in order.arguments]
        if not self.actors:
            raise RankLost("the learners were ended")
        tickets = [actor.handle.order.remote(order.name, *sent) for actor in self.actors]
        return self.wait(tickets, 0.0 if self.warm else STARTUP)

    def wait(self, tickets: Sequence[Any], more: float = 0.0) -> list[Any]:
        """The answers to all tickets; `more` seconds beyond the deadline without a sign of life."""
        answers: dict[Any, Any] = {}
        since, beats = time.monotonic(), self.beats()
        while len(answers) < len(tickets):
            left = [ticket for ticket in tickets if ticket not in answers]
            ready, _ = ray.wait(left, num_returns=1, timeout=LOOK)
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
            limit = patience(self.deadline, self.longest) + more
            if now - since > limit:
                raise RankLost(f"no learner gave a sign of life for {limit:.0f} s")
        return [answers[ticket] for ticket in tickets]

    def beats(self) -> list[int]:
        """The signs of life of each rank so far; shows what the ranks print."""
        signs = heard(actor.key for actor in self.actors)
        for rank, actor in enumerate(self.actors):
            sign = signs.get(actor.key, NO_SIGN)
            show(f"learner {rank}", sign, self.printed.get(actor.key, 0))
            self.printed[actor.key] = sign.printed
        return [signs.get(actor.key, NO_SIGN).beats for actor in self.actors]

    def answer(self, ticket: Any, rank: int) -> Any:
        """The answer to a ticket that is there."""
        try:
            answer = ray.get(ticket)
        except RayError as error:
            raise RankLost(f"learner {rank} died: {first_line(error)}") from error
        if isinstance(answer, Failure):
            self.end()
            raise revive(answer, f"learner {rank}")
        return answer

    # --- processes ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Starts all ranks and has them make their parts; again where one dies of it."""
        while True:
            try:
                self.start()
                return
            except RankLost as lost:
                self.bury(str(lost))

    def start(self) -> None:
        """Starts all ranks, of which each takes a place of the placement group."""
        if lost := cluster_lost():
            raise ClusterLost(f"{lost}.")
        scheduled = not is_own()
        self.placement = self.placement or self.place(1.0 if scheduled else SHARE_OF_CPU)
        driver = socket.gethostname(), os.getpid()
        for rank in range(self.ranks):
            place = Place(rank, self.ranks, self.gpus, driver, new_key(), not scheduled)
            options = {
                "num_cpus": 1.0 if scheduled else SHARE_OF_CPU,
                "num_gpus": self.gpus,
                "max_restarts": 0,
                "max_task_retries": 0,
                "runtime_env": learner_env(self.gpus),
                "scheduling_strategy": PlacementGroupSchedulingStrategy(self.placement, rank),
            }
            with quiet():
                handle: Any = ray.remote(**options)(Rank)
                handle = handle.remote(place)
            self.actors.append(Actor(handle, place.key, handle.hello.remote()))
        self.say(f"starting {self.ranks} learners")
        hosts = self.wait([actor.started for actor in self.actors], STARTUP)
        self.kind = self.ask(Order(0, "start", (hosts[0][2], self.make)))[0]

    def place(self, cpus: float) -> Any:
        """A place for every rank. Raises RemoteError where the cluster has no room for them."""
        bundle = {"CPU": cpus} | ({"GPU": self.gpus} if self.gpus else {})
        placement = placement_group([bundle] * self.ranks, strategy="PACK")
        ready, waited = placement.ready(), time.monotonic()
        while not ray.wait([ready], timeout=LOOK)[0]:
            self.say(f"waiting for {self.ranks} places with {in_words(bundle)} on the cluster")
            if lost := cluster_lost():
                raise ClusterLost(f"{lost}.")
            if time.monotonic() - waited > (10.0 if is_own() else WAIT_FOR_CPUS_S):
                remove_placement_group(placement)
                have = ray.cluster_resources()
                raise RemoteError(
                    f"no room for {self.ranks} learners: each needs {in_words(bundle)}, and the "
                    f"cluster has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs."
                )
        return placement

    def recover(self, reason: str) -> None:
        """Ends all ranks and brings a new group to where the last one was."""
        self.bury(reason)
        found = self.latest()
        if found is None or int(found.arrays["run/iteration"]) > self.iteration * self.rounds:
            found = self.base
        at = 0 if found is None else int(found.arrays["run/iteration"]) // self.rounds
        try:
            self.begin()
            before = [order for order in self.done if order.name == "change"]
            for order in [each for each in before if each.iteration <= at][-1:]:
                self.ask(order)
            if found is not None:
                self.ask(Order(at, "restore", (found,)))
            for order in self.done:
                if order.iteration >= at:
                    self.ask(order)
        except RankLost as lost:
            self.recover(str(lost))

    def bury(self, reason: str) -> None:
        """Ends what is left of a group. Raises RemoteError where that comes again and again."""
        self.end()
        self.restarts, self.deaths = self.restarts + 1, self.deaths + 1
        if self.deaths > DEATHS:
            raise RemoteError(f"the learners died {self.deaths} times in a row: {reason}.")
        self.warn(f"{reason}; all {self.ranks} learners start again from the last checkpoint")

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
        if self.actors and not cluster_lost():
            tickets = [actor.handle.order.remote("close") for actor in self.actors]
            ray.wait(tickets, num_returns=len(tickets), timeout=CLOSING)
        self.end()
        if self.placement is not None and not cluster_lost():
            remove_placement_group(self.placement)
        self.placement = None

    # --- what needs no order ----------------------------------------------------------------------

    @property
    def discarded(self) -> Discarded:
        return Discarded(*self.told.discarded)

    @property
    def devices(self) -> Devices:
        return Devices(self.kind, self.ranks * max(self.gpus, 1))

    def updates_since(self, iteration: int) -> int:
        begin = max(iteration * self.rounds, warmup_iterations(self.learner, self.steps))
        return updates_of(self.learner, self.iteration * self.rounds - begin)

    def stats(self) -> dict[str, float]:
        pools = {f"pool/{name}": value for name, value in self.told.stats.items()}
        return pools | {"learners": self.ranks, "learner_restarts": self.restarts}

    def keep(self, take: Callable[[Rollout, int], None]) -> None:
        raise ConfigError("rollouts of several learners are not recorded: leave out --record.")

    def lend(self) -> Sequence[VectorEnv] | None:
        """Rollout workers do not lend their environments."""

    def restart(self) -> None:
        """Nothing was lent."""

    def heed(self, stopped: Callable[[], bool]) -> None:
        """What is under way is ended: all ranks have to end it together."""


CHANGING = ("advance", "change", "set_state")  # orders that a new group repeats
LARGE = ("restore", "set_state")  # whose arguments are sent once for all ranks


def new_key() -> bytes:
    """A key that nobody else has."""
    return os.urandom(16).hex().encode()


def learner_env(gpus: int) -> dict[str, Any]:
    """The runtime environment of a learner: as that of a worker, with all threads and its cards."""
    env = worker_env("gpu" if gpus else "cpu")["env_vars"]
    kept = {name: x for name, x in env.items() if not name.endswith(("_THREADS", "NPROC"))}
    return {"env_vars": kept | {"XLA_FLAGS": one_device()}}


def one_device() -> str:
    """This process's XLA_FLAGS, without simulated devices."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return " ".join(flag for flag in flags if "host_platform_device_count" not in flag)


def in_words(bundle: Mapping[str, float]) -> str:
    """What a place has, such as 1 CPU and 1 GPU."""
    return " and ".join(f"{count:g} {kind}" for kind, count in bundle.items())
