"""A replay in several processes: rollouts are written to them, batches come from all of them.

The process that learns passes on where rollouts are, never the rollouts. It asks every shard once
for several batches, and while it learns from these the next ones are drawn. A shard that dies or
hangs is replaced by an empty one; its ledger counts what was lost.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from parl.agents.replay.joined import Places, joined, places
from parl.agents.replay.shard import Standing, Told, prioritized_of
from parl.core.errors import CheckpointError, ClusterLost, Halted, RemoteError
from parl.envs import pulse
from parl.envs.pulse import DEATHS, PATIENCE, STARTUP
from parl.remote.ledger import ShardLedger
from parl.remote.supervisor import LOOK, Terms

NOTHING = Standing()


class Died(Exception):
    """A shard's process is gone."""


class Missing(Exception):
    """What a shard was to write is gone."""


class Process(Protocol):
    """A shard, wherever it lives. Calls are answered in their order."""

    def call(self, name: str, *arguments: Any) -> Any:
        """A ticket for the answer of one of its methods."""
        ...

    def kill(self) -> None: ...


class Hosts(Protocol):
    """How to start shards and hear from them."""

    scheduled: bool  # whether one may have to wait for a machine

    def start(self, number: int) -> Process:
        """A new shard, whose draws follow from a number that no other one had."""
        ...

    def wait(self, tickets: list[Any], timeout: float) -> list[Any]:
        """The answered tickets, after at most `timeout` seconds without any."""
        ...

    def answer(self, ticket: Any) -> Any:
        """Raises Died, Missing, and what was raised in the shard."""
        ...

    def lost(self) -> str:
        """What has ended so that nothing can go on; empty where nothing has."""
        ...


class Call(NamedTuple):
    """A call under way."""

    name: str
    begun: float
    steps: int = 0  # that it writes


@dataclass(eq=False)
class Part:
    """The place of one shard; processes come and go in it."""

    index: int
    process: Process
    calls: dict[Any, Call] = field(default_factory=dict)  # by their tickets
    life: int = 0  # processes before this one
    there: bool = False  # whether the process has started
    warm: bool = False  # whether it has drawn: what comes first takes longer
    since: float = 0.0  # when it answered last
    deaths: int = 0  # in a row, without an answer in between
    standing: Standing = NOTHING
    ledger: ShardLedger = field(default_factory=ShardLedger)

    def call(self, name: str, *arguments: Any, steps: int = 0) -> Any:
        """Calls a method of the shard; returns the ticket."""
        ticket = self.process.call(name, *arguments)
        self.calls[ticket] = Call(name, time.monotonic(), steps)
        return ticket

    def silent(self) -> float:
        """Seconds for which a call has been under way without any answer."""
        begun = min(call.begun for call in self.calls.values())
        return time.monotonic() - max(begun, self.since)


class Asked(NamedTuple):
    """Batches that are being drawn: whence, the shards' tickets, and their lives, by index."""

    where: Places
    tickets: dict[int, Any]
    lives: dict[int, int]


class Sample(NamedTuple):
    """What the errors of batches belong to: rows of shards, drawn after so many adds, by index."""

    where: Places
    rows: dict[int, np.ndarray]
    added: dict[int, int]
    lives: dict[int, int]


class Shards:
    """`count` shards of a replay, for rollouts of `steps` steps.

    `replay` is that of one shard, which holds `capacity` steps.
    """

    def __init__(
        self,
        hosts: Hosts,
        count: int,
        replay: Any,
        steps: int,
        capacity: int,
        seed: int,
        terms: Terms,
    ):
        self.hosts, self.terms = hosts, terms
        self.steps, self.capacity = steps, capacity
        self.prioritized = prioritized_of(replay)
        self.random = np.random.default_rng(seed)
        self.asked: Asked | None = None
        self.drawn: dict[Any, Any] = {}  # answers to calls of `draw`, by their tickets
        self.samples = self.deaths = self.late = 0
        self.turn = 0  # of the shard that the next rollout is written to
        self.parts = [Part(index, hosts.start(index)) for index in range(count)]
        for part in self.parts:
            part.call("standing")

    # --- what the learner does --------------------------------------------------------------

    def ready(self) -> None:
        """Waits until all shards are there. Raises RemoteError where there is no room for them."""
        while not all(part.there for part in self.parts):
            self.look(LOOK)

    def add(self, reference: Any) -> None:
        """Has the rollout behind a reference written, to one shard after the other."""
        while not (there := [part for part in self.parts if part.there]):
            self.look(LOOK)
        part = there[self.turn % len(there)]
        self.turn += 1
        largest = max(each.standing.largest for each in self.parts)
        part.ledger.send(self.steps)
        part.call("add", reference, largest, steps=self.steps)

    def settle(self) -> None:
        """Waits until all is written."""
        while any(call.steps for part in self.parts for call in part.calls.values()):
            self.look(LOOK)
        self.look(0.0)

    @property
    def held(self) -> int:
        """Steps in all shards."""
        return sum(part.ledger.held for part in self.parts)

    @property
    def room(self) -> int:
        """Steps that all shards can hold."""
        return self.capacity * len(self.parts)

    def draw(self, updates: int, size: int) -> tuple[Sample, Any] | None:
        """(what to report errors for, batches [updates, size, ...]); None where nothing is held.

        The next batches are asked for at once.
        """
        asked, found = self.asked or self.ask(updates, size), None
        while asked is not None and (found := self.answers(asked)) is None:
            asked = self.ask(updates, size)
        if asked is None or found is None:
            return None
        self.asked = self.ask(updates, size)
        beta = float(self.prioritized.beta) if self.prioritized else 0.0
        batches = joined([found.get(part.index) for part in self.parts], asked.where, beta)
        self.samples += updates * size
        rows = {i: draw.rows for i, draw in found.items()}
        added = {i: draw.standing.added for i, draw in found.items()}
        return Sample(asked.where, rows, added, asked.lives), batches

    def learned(self, sample: Sample, td_error: Any) -> None:
        """Has the shards told the errors [updates, size] of a sample, each in one call."""
        if self.prioritized is None:
            return
        errors = np.asarray(td_error).reshape(-1)
        for i, rows in sample.rows.items():
            part = self.parts[i]
            if part.life == sample.lives[i]:
                part.call("learned", rows, errors[sample.where.of(i)], sample.added[i])
            else:
                self.late += len(rows)

    # --- asking and hearing -----------------------------------------------------------------

    def ask(self, updates: int, size: int) -> Asked | None:
        """Has batches drawn; None where nothing is held."""
        masses = [part.standing.mass for part in self.parts]
        self.asked = None
        self.drawn.clear()
        if not sum(masses) > 0:
            return None
        where = places(masses, updates, size, self.random)
        counts = where.counts.sum(0)
        asked = [part for part in self.parts if counts[part.index]]
        tickets = {part.index: part.call("draw", int(counts[part.index])) for part in asked}
        return Asked(where, tickets, {part.index: part.life for part in asked})

    def answers(self, asked: Asked) -> dict[int, Any] | None:
        """What was drawn, by the index of the shard; None where one of them died."""
        while True:
            if any(self.parts[i].life != life for i, life in asked.lives.items()):
                return None
            if all(ticket in self.drawn for ticket in asked.tickets.values()):
                return {i: self.drawn.pop(ticket) for i, ticket in asked.tickets.items()}
            self.look(LOOK)

    def look(self, timeout: float) -> None:
        """Takes in the answers that are there, or come within `timeout` seconds.

        Raises ClusterLost; RemoteError where there is no room or a shard dies again and again;
        Halted where waiting is to end.
        """
        pulse.beat()
        lives = {ticket: (part, part.life) for part in self.parts for ticket in part.calls}
        ready = self.hosts.wait(list(lives), timeout) if lives else []
        for ticket in ready:
            part, life = lives[ticket]
            if part.life == life:  # it has not died of the call before
                self.hear(part, ticket)
        if ready or not timeout:
            return
        if lost := self.hosts.lost():
            raise ClusterLost(f"{lost}.")
        if self.terms.stop():
            raise Halted("the wait for replay shards was given up.")
        for part in self.parts:
            self.check(part)

    def hear(self, part: Part, ticket: Any) -> None:
        """Takes in an answer of a shard, or its death."""
        try:
            answer = self.hosts.answer(ticket)
        except Died as death:
            self.replace(part, str(death))
            return
        except Missing:
            part.ledger.miss(part.calls.pop(ticket).steps)
            return
        call = part.calls.pop(ticket)
        part.there, part.since, part.deaths = True, time.monotonic(), 0
        if call.name == "draw":
            part.warm = True
            self.drawn[ticket] = answer
        if call.steps:
            part.ledger.arrive(call.steps, self.capacity)
        if isinstance(answer, Told):
            self.late += answer.late
        part.standing = answer if isinstance(answer, Standing) else answer.standing

    def check(self, part: Part) -> None:
        """Replaces a shard that hangs. Raises RemoteError where none gets a place."""
        if not part.calls:
            return
        silent = part.silent()
        if not part.there and self.hosts.scheduled:
            if silent > self.terms.room and not any(each.there for each in self.parts):
                raise RemoteError(
                    f"no room for {len(self.parts)} replay shards: each needs a CPU of the "
                    f"cluster, and none is free after {silent:.0f} s; use fewer shards or actors."
                )
            return
        limit = self.terms.deadline or PATIENCE
        if silent > (limit if part.warm else limit + STARTUP):
            self.replace(part, f"it gave no answer for {silent:.0f} s")

    def replace(self, part: Part, reason: str) -> None:
        """An empty shard for one that died. Raises RemoteError where they die again and again."""
        part.process.kill()
        part.ledger.die()
        part.calls.clear()
        self.deaths += 1
        part.deaths += 1
        part.life += 1
        part.there, part.warm, part.standing = False, False, NOTHING
        if part.deaths > DEATHS:
            raise RemoteError(
                f"replay shard {part.index} died {part.deaths} times in a row: {reason}."
            )
        self.terms.say(f"replay shard {part.index} died ({reason}); an empty one takes its place")
        part.process = self.hosts.start(part.index + part.life * len(self.parts))
        part.call("standing")

    # --- what others ask --------------------------------------------------------------------

    def metrics(self) -> Mapping[str, float]:
        """Metrics for the log: steps by what became of them, samples and faults."""
        ledgers = [part.ledger.report() for part in self.parts]
        steps = {name: sum(ledger[name] for ledger in ledgers) for name in ledgers[0]}
        counts = {"drawn": self.samples, "late": self.late, "deaths": self.deaths}
        return {"shards": sum(part.there for part in self.parts)} | steps | counts

    def state_dict(self) -> list[dict[str, int]]:
        """The ledgers of all shards, which are all that a checkpoint holds of them."""
        return [part.ledger.report() for part in self.parts]

    def load_state_dict(self, state: Sequence[Mapping[str, int]]) -> None:
        """Continues ledgers of an earlier session, whose steps are lost."""
        if len(state) != len(self.parts):
            raise CheckpointError(
                f"the run was saved with {len(state)} replay shards, not {len(self.parts)}; "
                "resume it with as many."
            )
        for part, saved in zip(self.parts, state, strict=True):
            part.ledger = ShardLedger(**{name: int(count) for name, count in saved.items()})
            part.ledger.die()

    def heed(self, stopped: Any) -> None:
        """Has waits raise Halted soon after `stopped` is true."""
        self.terms = self.terms._replace(stop=stopped)

    def close(self) -> None:
        """Ends all shards."""
        if not self.hosts.lost():
            for part in self.parts:
                part.process.kill()
