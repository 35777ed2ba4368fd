"""Keeps a worker in every slot: starts, monitors, kills and replaces processes.

It makes no decisions about learning. It reports answers and deaths as events, which the synchronous
and the asynchronous loop handle.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from parl.agents.execution.collector import CollectorState
from parl.core.errors import ClusterLost, Halted, RemoteError
from parl.core.seeding import env_seed
from parl.envs import pulse
from parl.envs.pulse import DEATHS, STARTUP, patience
from parl.remote.chaos import draw
from parl.remote.failure import Failure
from parl.remote.gauge import Gauge
from parl.remote.lifeline import Sign, show
from parl.remote.process import Backend, Died, Process
from parl.remote.tracing import Traced
from parl.remote.worker import Build, Close, Collect, MakeWorker, Reply, Request

WAIT_FOR_CPUS_S = 600.0  # seconds to wait until a cluster that others use has CPUs for the workers
GRACE = 2.0  # seconds that a wait goes on for after it is to stop: answers may be near
LOOK = 0.5  # seconds between two looks at all that may end a wait
NO_SIGN = Sign()
CLOSING = 2.0  # seconds that workers have for closing their environments


class Terms(NamedTuple):
    """How long workers are waited for, and who hears of it."""

    deadline: float | None = None  # seconds without a sign of life; by default what is measured
    room: float = WAIT_FOR_CPUS_S  # seconds to wait for CPUs
    stop: Callable[[], bool] = lambda: False  # whether waits are to end
    say: Callable[[str], None] = lambda text: None  # is told what is waited for


@dataclass(frozen=True)
class Restart:
    """What a worker may do in a row, without a fragment in between, before it is given up."""

    deaths: int = DEATHS  # of its process
    errors: int | None = None  # of its environment; by default 0 in sync mode, 3 in async mode


class Pending(NamedTuple):
    """A request under way."""

    ticket: Any
    request: Request | None  # None: the process starting
    submitted: float
    wanted: bool  # whether anybody wants the answer; not where a fragment is only played again


class Event(NamedTuple):
    """An answer, or a death with all that was under way."""

    slot: "Slot"
    request: Request | None
    reply: Reply | None
    died: str | None = None
    lost: tuple[Collect, ...] = ()  # fragments that will not come


@dataclass(eq=False)
class Slot:
    """The place of one worker; processes come and go in it."""

    index: int
    epoch: int = 0  # how often its seeds were renewed
    process: Process | None = None
    pending: deque[Pending] = field(default_factory=deque)
    since: float = 0.0  # when it last showed a sign of life
    sign: Sign = NO_SIGN  # the last one from amid its work
    died: float | None = None  # when, until the first fragment after
    warm: bool = False  # whether this process has brought a fragment
    deaths: int = 0  # in a row
    errors: int = 0  # in a row
    failure: Failure | None = None  # the last one
    given_up: bool = False
    retiring: bool = False  # its process is too big, or its machine about to leave
    last_known_state: CollectorState | None = None  # sync: where the collector stood
    replayed: list[Collect] = field(default_factory=list)  # sync: fragments since the boundary

    @property
    def collecting(self) -> list[Collect]:
        """The fragments under way that somebody waits for."""
        return [p.request for p in self.pending if p.wanted and isinstance(p.request, Collect)]

    def drop_pending(self) -> list[Collect]:
        """Forgets all that is under way; returns the fragments that somebody waited for."""
        lost, self.pending = self.collecting, deque()
        return lost


class Supervisor:
    """Slots, the processes in them, and the processes that wait to step in."""

    def __init__(
        self,
        backend: Backend,
        make_worker: MakeWorker,
        envs_per_worker: int,
        num_workers: int,
        seed: int,
        terms: Terms,
        spares: int,
        max_memory: int | None,
        traced: Traced | None = None,
        needed: int = 1,
    ):
        self.traced, self.needed = traced, needed  # workers without which nothing goes on
        self.backend, self.make_worker, self.envs_per_worker = backend, make_worker, envs_per_worker
        self.seed, self.terms, self.max_memory = seed, terms, max_memory
        self.abandoned = False  # whether workers are not to be waited for any more
        self.looked = self.listened = -math.inf  # when
        self.leaves = False  # whether this machine is about to leave
        self.notice = False  # whether one has been heard to, since that was asked
        self.said = ""  # last, of what is waited for
        self.stopping: float | None = None  # since when a wait is to end
        self.gauge = Gauge()
        self.slots = [Slot(index) for index in range(num_workers)]
        self.num_spares, self.reserved = spares, 0
        self.spares: deque[Process] = deque()

    def seed_index(self, slot: Slot) -> int:
        """What a collector's seeds follow from: the worker's index, or a fresh number.

        A worker that replaces one whose position was lost must not live through its past again.
        """
        if not slot.epoch:
            return slot.index
        return self.fresh(slot.index, slot.epoch)

    def fresh(self, place: int, count: int) -> int:
        """A number that no worker had: `place` modulo all workers, those in reserve included."""
        places = len(self.slots) + self.num_spares
        return (env_seed(self.seed, place, count) // places + 1) * places + place

    def assign(self, slot: Slot) -> None:
        """Puts a process into a slot and has it make the collector at the slot's boundary."""
        slot.process = self.spares.popleft() if self.spares else self.start()
        slot.warm, slot.retiring, slot.sign = False, False, NO_SIGN
        slot.since = time.monotonic()
        slot.pending = deque([Pending(slot.process.started, None, slot.since, False)])
        self.submit(slot, Build(self.seed_index(slot), slot.last_known_state), wanted=False)
        for request in slot.replayed:
            self.submit(slot, request._replace(fault=None), wanted=False)
        while len(self.spares) < self.num_spares:
            self.spares.append(self.reserve())

    def start(self) -> Process:
        """A new process without a collector."""
        try:
            return self.backend.start(self.make_worker, self.envs_per_worker)
        except ClusterLost:
            self.abandoned = True
            raise

    def reserve(self) -> Process:
        """Starts a spare process, which imports and compiles by making a collector.

        It makes another collector when it replaces a worker; failures of this one are ignored.
        """
        spare = self.start()
        place = len(self.slots) + self.reserved % self.num_spares  # of the one that stepped in
        self.reserved += 1
        spare.submit(Build(self.fresh(place, self.reserved)))
        return spare

    def submit(self, slot: Slot, request: Request, wanted: bool = True) -> None:
        """Sends a request to the slot's process."""
        assert slot.process is not None
        if wanted and isinstance(request, Collect):
            version = request.weights.version
            traced = self.traced is not None and self.traced.wants(slot.index, version)
            request = request._replace(fault=draw(), trace=traced)
        now = time.monotonic()
        slot.pending.append(Pending(slot.process.submit(request), request, now, wanted))

    def renew(self, slot: Slot) -> None:
        """Gives up the slot's position in its episodes: what follows starts from fresh seeds."""
        slot.epoch += 1
        slot.last_known_state, slot.replayed = None, []

    def stop(self, slot: Slot) -> None:
        """Ends the slot's process."""
        if slot.process is not None:
            slot.process.kill()
        slot.process, slot.pending, slot.warm = None, deque(), False

    def events(self, timeout: float) -> list[Event]:
        """What happened, in the order of the slots; waits `timeout` seconds if nothing did."""
        pulse.beat()  # of the process that waits here, which may itself be one that is watched
        heads = {slot.pending[0].ticket: slot for slot in self.slots if slot.pending}
        timeout = min(timeout, LOOK)
        if not heads:
            time.sleep(timeout)
        ready = set(self.backend.wait(list(heads), timeout)) if heads else set()
        events, now = [], time.monotonic()
        if now - self.looked >= LOOK:
            self.look(now)
        if not ready:
            self.check_stop(now)
        for ticket, slot in heads.items():
            if ticket in ready:
                events.append(self.receive(slot, ticket, now))
            elif now - max(slot.since, slot.pending[0].submitted) > self.limit(slot):
                events.append(self.declare_dead(slot, silence(self.limit(slot))))
        return [event for event in events if event.request is not None or event.died]

    def look(self, now: float) -> None:
        """Polls the workers. Raises ClusterLost, or RemoteError if the cluster has no room."""
        self.looked = now
        if lost := self.backend.lost():
            self.abandoned = True
            raise ClusterLost(f"{lost}.")
        if now - self.listened >= 2 * LOOK:
            self.listen()
            self.check_room(now)
            self.check_leaving()

    def check_leaving(self) -> None:
        """Has workers whose machines are about to leave replaced after their fragments."""
        keys, here = self.backend.leaving([slot.process for slot in self.slots if slot.process])
        for slot in self.slots:
            if slot.process and slot.process.key in keys and not slot.retiring:
                slot.retiring = True
                self.gauge.drained += 1
                self.notice = True
        if here and not self.leaves:
            self.leaves = self.notice = True

    def check_stop(self, now: float) -> None:
        """Raises Halted where the wait is to end and nothing has come for a while."""
        if not self.terms.stop():
            self.stopping = None
            return
        self.stopping = self.stopping or now
        if now - self.stopping > GRACE:
            self.abandoned = True
            raise Halted("the wait for rollout workers was given up.")

    def halt(self) -> None:
        """Has the workers break off their fragments."""
        self.backend.halt([slot.process for slot in self.slots if slot.process])

    def listen(self) -> None:
        """Takes in what workers tell from amid their work, and shows what they print."""
        self.listened = time.monotonic()
        signs = self.backend.signs([slot.process for slot in self.slots if slot.process])
        for slot in self.slots:
            sign = signs.get(slot.process.key) if slot.process else None
            if sign is not None:
                if sign.beats != slot.sign.beats:
                    slot.since = self.listened
                show(f"worker {slot.index}", sign, slot.sign.printed)
                slot.sign = sign

    def check_room(self, now: float) -> None:
        """Says that workers wait for CPUs. Raises RemoteError where all have done so for long."""
        busy = [slot for slot in self.slots if slot.pending]
        waiting = [slot for slot in busy if self.waits_for_room(slot)]
        waited = min((now - slot.since for slot in waiting), default=0.0)
        if waited < 1:
            return self.say("")
        free, total = self.backend.room()
        if free < len(waiting):
            wanted = f"{len(waiting)} CPU{'s' * (len(waiting) > 1)}"
            self.say(f"waiting for {wanted} of the cluster ({free:g} of {total:g} free)")
        late = [slot for slot in waiting if now - slot.since > self.terms.room]
        there = [slot for slot in self.slots if not slot.given_up and slot not in late]
        if late and len(there) < self.needed:
            waited = max(now - slot.since for slot in late)
            raise RemoteError(
                f"no room for {len(late)} of {len(self.slots)} rollout workers: each needs a CPU "
                f"of the cluster, and {free:g} of its {total:g} are free after {waited:.0f} s; "
                "use fewer actors, or wait for other runs to end (see `parl cluster status`)."
            )

    def say(self, text: str) -> None:
        """Says what is waited for, once."""
        if text and text != self.said:
            self.terms.say(text)
        self.said = text

    def waits_for_room(self, slot: Slot) -> bool:
        """Whether the slot's process has not been placed yet, on a cluster where that may last."""
        return self.backend.scheduled and slot.pending[0].request is None

    def receive(self, slot: Slot, ticket: Any, now: float) -> Event:
        """The event of an answered ticket."""
        try:
            reply = self.backend.answer(ticket)
        except Died as death:
            return self.declare_dead(slot, str(death))
        pending = slot.pending.popleft()
        request, slot.since = pending.request, now
        if reply.failure:
            slot.failure = reply.failure
            lost = (request,) if isinstance(request, Collect) and pending.wanted else ()
            return Event(slot, request, reply, lost=lost)
        if reply.fragment is not None and pending.wanted:
            assert isinstance(request, Collect)
            slot.deaths = slot.errors = 0
            if reply.trace and self.traced is not None:
                self.traced.keep(reply.version, reply.trace)
            if slot.warm:
                self.gauge.fragment(reply.seconds, request.length)
            if slot.died is not None:
                self.gauge.recoveries.append(now - slot.died)
            slot.warm, slot.died = True, None
            slot.retiring |= bool(self.max_memory) and reply.memory > (self.max_memory or 0)
        return Event(slot, request, reply)

    def declare_dead(self, slot: Slot, reason: str) -> Event:
        """The event of a death."""
        request, lost = slot.pending[0].request, tuple(slot.drop_pending())
        self.stop(slot)
        slot.deaths += 1
        slot.died = slot.died or time.monotonic()
        slot.failure = Failure("RemoteError", f"rollout worker {slot.index} died: {reason}", "")
        self.gauge.deaths += 1
        return Event(slot, request, None, reason, lost)

    def limit(self, slot: Slot) -> float:
        """Seconds that the request at the head of a slot may take."""
        if self.waits_for_room(slot):
            return math.inf
        limit = patience(self.terms.deadline, slot.sign.longest)
        return limit if slot.warm or slot.sign.stepping else limit + STARTUP

    def close(self) -> None:
        """Ends all processes; those that answer may close their environments first."""
        if not self.abandoned and not self.backend.lost():
            idle = [slot.process for slot in self.slots if slot.process and not slot.collecting]
            tickets = [process.submit(Close()) for process in idle]
            end = time.monotonic() + CLOSING
            while tickets and time.monotonic() < end:
                answered = set(self.backend.wait(tickets, LOOK))
                tickets = [ticket for ticket in tickets if ticket not in answered]
            self.listen()
        for slot in self.slots:
            self.stop(slot)
        while self.spares:
            self.spares.popleft().kill()


def silence(seconds: float) -> str:
    """Why a worker counts as hung."""
    return (
        f"it gave no sign of life for {seconds:.0f} s, not a step of one environment; where that "
        "is to be, set --deadline SECONDS (deadline=)"
    )
