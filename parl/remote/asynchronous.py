"""Asynchronous collection: fragments as they arrive; failed workers are replaced.

Every worker has up to `max_in_flight` fragments under way or waiting to be learned from, so it
never idles while the learner keeps up, and rests while the learner does not. A worker whose process
died or hung gets a new one; one whose environment raised makes a new environment in place. Both
start from fresh seeds. Fragments in flight are lost, and the ledger counts them.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax

from parl.agents.execution.collector import Fragment
from parl.remote.failure import revive
from parl.remote.ledger import Books
from parl.remote.supervisor import Event, Restart, Slot, Supervisor
from parl.remote.worker import Build, Collect, Weights

ERRORS = 3  # in a row that a worker's environment may raise, where nothing else is said
QUEUE_BYTES = 2**30  # of fragments that wait; beyond it the oldest are dropped
WORKERS_PER_EXTRA_FRAGMENT = (
    32  # one more fragment is returned per this many workers before all are polled again
)


class Arrival(NamedTuple):
    """A fragment to learn from."""

    fragment: Fragment
    worker: int
    version: int  # of the policy that acted
    lag: int  # versions published since


class Waiting(NamedTuple):
    """A fragment in the queue."""

    fragment: Fragment
    slot: Slot
    version: int
    steps: int
    bytes: int


class Asynchronous:
    """Keeps all workers busy and returns their fragments."""

    def __init__(
        self,
        supervisor: Supervisor,
        books: Books,
        restart: Restart,
        max_in_flight: int,
        max_policy_lag: int | None,
        min_workers: int,
        leaves: tuple[int, ...] | None = None,
    ):
        self.leaves = leaves  # of rollouts that are brought
        self.supervisor, self.books, self.restart = supervisor, books, restart
        self.errors = ERRORS if restart.errors is None else restart.errors
        self.max_in_flight, self.max_policy_lag = max_in_flight, max_policy_lag
        self.min_workers = min_workers
        self.queue: deque[Waiting] = deque()
        self.queue_bytes = 0
        for slot in supervisor.slots:
            supervisor.assign(slot)

    def stream(
        self, weights: Callable[[], Weights], length: Callable[[], int], random: bool
    ) -> Iterator[Arrival]:
        """Fragments, without end. Raises an error if fewer than `min_workers` workers are left."""
        while True:
            waiting = Counter(one.slot.index for one in self.queue)
            for slot in self.supervisor.slots:
                self.top_up(slot, waiting[slot.index], weights(), length(), random)
            for event in self.supervisor.events(0.0 if self.queue else 1.0):
                self.on(event)
            self.check_workers()
            for _ in range(len(self.supervisor.slots) // WORKERS_PER_EXTRA_FRAGMENT + 1):
                arrival = self.next(weights().version)
                if arrival is None:
                    break
                yield arrival

    def wait_for_least(self) -> None:
        """Waits until `min_workers` workers have had their environments."""
        ready: set[int] = set()
        while len(ready) < self.min_workers:
            for event in self.supervisor.events(1.0):
                self.on(event)
                if event.died is None and event.reply and not event.reply.failure:
                    ready.add(event.slot.index)
            self.check_workers()

    def check_workers(self) -> None:
        """Raises the failure of the first abandoned worker if too few are left."""
        lost = [slot for slot in self.supervisor.slots if slot.given_up]
        if len(self.supervisor.slots) - len(lost) < self.min_workers:
            slot = lost[0]
            assert slot.failure is not None
            self.supervisor.listen()  # what was printed before it failed
            raise revive(slot.failure, f"rollout worker {slot.index}")

    def next(self, version: int) -> Arrival | None:
        """The oldest fragment that is not too old, if there is one."""
        while self.queue:
            one = self.queue.popleft()
            self.queue_bytes -= one.bytes
            lag = version - one.version
            stale = self.max_policy_lag is not None and lag > self.max_policy_lag
            self.books.leave("dropped_stale" if stale else "trained", one.steps)
            if not stale:
                self.supervisor.gauge.lags.append(lag)
                return Arrival(one.fragment, one.slot.index, one.version, lag)
        return None

    def top_up(self, slot: Slot, waiting: int, weights: Weights, length: int, random: bool) -> None:
        """Asks a worker for as many fragments as it may have under way beside those that wait."""
        if slot.retiring and not slot.collecting:
            self.supervisor.stop(slot)
            self.supervisor.renew(slot)
            self.supervisor.assign(slot)
            self.supervisor.gauge.recycled += 1
        if slot.given_up or slot.retiring or self.queue_bytes > QUEUE_BYTES:
            return
        for _ in range(self.max_in_flight - waiting - len(slot.collecting)):
            self.supervisor.submit(slot, Collect(length, random, weights, leaves=self.leaves))

    def on(self, event: Event) -> None:
        """Handles an event of one worker."""
        slot, reply = event.slot, event.reply
        self.lose(event.lost)
        if event.died is not None:
            self.replace(slot)
        elif reply and reply.failure and reply.failure.kind != "NotBuilt":
            self.rebuild(slot)
        elif reply and reply.fragment is not None:
            assert isinstance(event.request, Collect)
            steps = event.request.length * self.supervisor.envs_per_worker
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(reply.fragment))
            self.queue.append(Waiting(reply.fragment, slot, reply.version, steps, size))
            self.queue_bytes += size
            self.books.arrive(steps)
            while self.queue_bytes > QUEUE_BYTES and len(self.queue) > 1:
                oldest = self.queue.popleft()
                self.queue_bytes -= oldest.bytes
                self.books.leave("dropped_overflow", oldest.steps)

    def replace(self, slot: Slot) -> None:
        """A new process for one that died."""
        if slot.deaths > self.restart.deaths:
            slot.given_up = True
            return
        self.supervisor.renew(slot)
        self.supervisor.assign(slot)

    def rebuild(self, slot: Slot) -> None:
        """A new environment, in the same process, for one that raised."""
        slot.errors += 1
        if slot.errors > self.errors:
            slot.given_up = True
            self.lose(slot.drop_pending())
            self.supervisor.stop(slot)
            return
        self.supervisor.gauge.rebuilds += 1
        self.renew(slot)

    def renew(self, slot: Slot) -> None:
        """Has a worker make its collector anew, from fresh seeds, after what is under way."""
        self.supervisor.renew(slot)
        self.supervisor.submit(slot, Build(self.supervisor.seed_index(slot)), wanted=False)

    def lose(self, requests: Iterable[Collect]) -> None:
        """Adds lost fragments to the ledger."""
        for request in requests:
            self.books.lose(request.length * self.supervisor.envs_per_worker)
