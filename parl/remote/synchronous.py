"""Synchronous collection: one fragment per worker, with results independent of failures.

A worker that dies is replaced by one that continues from where its collector stood at the last
fragment boundary that is known, plays the fragments since then again and brings the one that was
lost. Where the environments' state is exact, so are all numbers: the death leaves no trace in them.
Only where that dies again and again are the fresh seeds of a new epoch used.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from parl.agents.execution.collector import CollectorState, Fragment, before_learning
from parl.core.errors import ClusterLost, Halted, RemoteError
from parl.remote.failure import Failure, revive
from parl.remote.ledger import Books
from parl.remote.supervisor import Event, Restart, Slot, Supervisor
from parl.remote.worker import Build, Capture, Collect, Reply, Request, Weights

CAPTURE_SHARE = 0.03  # of a worker's time may go into sending its state
LONGEST_LOG = 16  # fragments to play again at most
EXACT_TRIES = 4  # in a row to continue where a worker died; then it seems to die of where it is


class Synchronous:
    """Asks all workers at once and waits for all of them."""

    def __init__(self, supervisor: Supervisor, books: Books, restart: Restart):
        self.supervisor, self.books, self.restart = supervisor, books, restart
        self.failed = False  # whether a worker was given up
        self.halting = False  # whether the workers were told to break off their fragments
        self.broken = False  # whether one did
        self.interval = 1  # fragments between two captures
        self.exact, self.inexact = 0, 0  # recoveries with and without exact environment state
        for slot in supervisor.slots:
            supervisor.assign(slot)

    def collect(self, weights: Weights, length: int, random: bool) -> list[Fragment]:
        """One fragment of every worker, in their order.

        Raises Halted where that is to end; `get_states` then gives where the workers stand in
        them, if they said so in time.
        """

        def request(slot: Slot) -> Collect:
            capture = len(slot.replayed) + 1 >= self.interval
            return Collect(length, random, weights, capture)

        for slot in self.supervisor.slots:
            if slot.retiring:
                self.supervisor.stop(slot)
                self.supervisor.gauge.recycled += 1
                self.supervisor.assign(slot)
        fragments, replies = [], self.run(request)
        if any(reply.fragment is None for reply in replies):
            self.broken = True
            self.break_off(replies)
            raise Halted("the rollout was broken off.")
        for slot, reply in zip(self.supervisor.slots, replies, strict=True):
            assert reply.fragment is not None
            steps = length * self.supervisor.envs_per_worker
            self.books.arrive(steps)
            self.books.leave("trained", steps)
            if reply.state is None:
                slot.replayed.append(Collect(length, random, weights))
            else:
                slot.last_known_state, slot.replayed = reply.state, []
                cost = reply.capture_seconds / max(reply.seconds, 1e-6) / CAPTURE_SHARE
                self.interval = min(max(math.ceil(cost), 1), LONGEST_LOG)
            fragments.append(reply.fragment)
        return fragments

    def break_off(self, replies: list[Reply]) -> None:
        """Notes where the workers stand amid a fragment, some with it behind them."""
        if any(reply.fragment is None and reply.state is None for reply in replies):
            return  # it was another fragment, played again: where they stood before it counts
        behind = self.run(lambda slot: Capture())
        for slot, reply, now in zip(self.supervisor.slots, replies, behind, strict=True):
            state = reply.state
            if reply.fragment is not None:
                assert now.state is not None
                state = before_learning(now.state, reply.fragment)
            slot.last_known_state, slot.replayed = state, []

    def get_states(self) -> list[CollectorState]:
        """The states of all collectors; their last known states if workers cannot be reached."""
        try:
            return self.ask_states()
        except (Halted, ClusterLost):
            if any(slot.last_known_state is None for slot in self.supervisor.slots):
                raise
            return [last_state(slot) for slot in self.supervisor.slots]

    def ask_states(self) -> list[CollectorState]:
        """Where all collectors say that they stand."""
        if self.supervisor.abandoned or self.failed or self.broken:
            raise Halted("the workers are not asked any more.")
        states = []
        for slot, reply in zip(
            self.supervisor.slots, self.run(lambda slot: Capture()), strict=True
        ):
            assert reply.state is not None
            slot.last_known_state, slot.replayed = reply.state, []
            states.append(reply.state)
        return states

    def set_states(self, states: list[CollectorState]) -> None:
        """Continues from there."""
        for slot, state in zip(self.supervisor.slots, states, strict=True):
            slot.last_known_state, slot.replayed = state, []
        self.run(lambda slot: Build(self.supervisor.seed_index(slot), slot.last_known_state))

    def run(self, request: Callable[[Slot], Request]) -> list[Reply]:
        """The answer of every worker, in their order; failures are dealt with on the way."""
        replies: dict[int, Reply] = {}
        for slot in self.supervisor.slots:
            self.supervisor.submit(slot, request(slot))
        while len(replies) < len(self.supervisor.slots):
            for event in self.supervisor.events(1.0):
                slot = event.slot
                if event.died is not None:
                    self.recover(event)
                    self.supervisor.submit(slot, request(slot))
                elif event.reply and event.reply.failure:
                    self.rebuild(event, event.reply.failure)
                    self.supervisor.submit(slot, request(slot))
                elif event.reply and not slot.pending:
                    replies[slot.index] = event.reply
            if self.supervisor.stopping is not None and not self.halting:
                self.halting = True
                self.supervisor.halt()
        return [replies[slot.index] for slot in self.supervisor.slots]

    def recover(self, event: Event) -> None:
        """Replaces a process that died."""
        slot = event.slot
        self.lose(event.lost)
        if slot.deaths > self.restart.deaths:
            self.failed = True
            raise RemoteError(
                f"rollout worker {slot.index} died {slot.deaths} times in a row without bringing "
                f"a fragment: {event.died}."
            )
        hopeless = slot.deaths > EXACT_TRIES
        if hopeless:
            self.supervisor.renew(slot)
        if hopeless or (
            slot.last_known_state and not all(e.exact for e in slot.last_known_state.envs)
        ):
            self.inexact += 1
        else:
            self.exact += 1
        self.supervisor.assign(slot)

    def rebuild(self, event: Event, failure: Failure) -> None:
        """Makes a collector anew whose environment raised, or raises that here."""
        slot = event.slot
        slot.errors += 1
        self.lose((*event.lost, *slot.drop_pending()))
        if slot.errors > (self.restart.errors or 0):
            self.failed = True
            self.supervisor.listen()  # what was printed before it failed
            raise revive(failure, f"rollout worker {slot.index}")
        self.supervisor.gauge.rebuilds += 1
        self.supervisor.renew(slot)
        self.supervisor.submit(slot, Build(self.supervisor.seed_index(slot)), wanted=False)

    def lose(self, requests: Iterable[Collect]) -> None:
        """Adds lost fragments to the ledger."""
        for request in requests:
            self.books.lose(request.length * self.supervisor.envs_per_worker)


def last_state(slot: Slot) -> CollectorState:
    """Where a collector stood at the last fragment that is known, exactly if that is the newest."""
    state, later = slot.last_known_state, sum(request.length for request in slot.replayed)
    assert state is not None
    if not later:
        return state
    arrays = state.arrays | {"time": np.asarray(int(state.arrays["time"]) + later)}
    return CollectorState(arrays, [env._replace(exact=False) for env in state.envs])
