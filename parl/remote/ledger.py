"""An exact account of the fragments that a pool produced and their use."""

from dataclasses import asdict, dataclass, fields


@dataclass
class Ledger:
    """Integers that always satisfy

        produced = trained + dropped_stale + dropped_overflow + in_queue

    Lost apart: asked for, and never arrived because a worker died or its environment failed.
    """

    produced: int = 0
    trained: int = 0
    dropped_stale: int = 0
    dropped_overflow: int = 0
    in_queue: int = 0
    lost: int = 0

    def check(self) -> None:
        """Asserts the identity."""
        places = self.trained + self.dropped_stale + self.dropped_overflow + self.in_queue
        assert self.produced == places, f"the ledger does not add up: {self}"


@dataclass
class ShardLedger:
    """Steps by what became of them in a shard of replay; integers that always satisfy

    sent = writing + held + replaced + lost
    """

    sent: int = 0
    writing: int = 0  # on their way
    held: int = 0
    replaced: int = 0  # by newer ones
    lost: int = 0  # with a process that died, or before they were written

    def send(self, steps: int) -> None:
        """Steps are on their way."""
        self.sent += steps
        self.writing += steps

    def arrive(self, steps: int, capacity: int) -> None:
        """Steps on their way are held, in the place of older ones where there is no room."""
        self.writing -= steps
        self.held += steps
        over = max(self.held - capacity, 0)
        self.held -= over
        self.replaced += over

    def miss(self, steps: int) -> None:
        """Steps on their way were lost."""
        self.writing -= steps
        self.lost += steps

    def die(self) -> None:
        """All that is there is lost, and all on its way."""
        self.lost += self.held + self.writing
        self.held = self.writing = 0

    def report(self) -> dict[str, int]:
        """Plain integers, after checking that they add up."""
        places = self.writing + self.held + self.replaced + self.lost
        assert self.sent == places, f"the ledger of a shard does not add up: {self}"
        return asdict(self)


class Books:
    """The ledger in fragments and in environment steps."""

    def __init__(self) -> None:
        self.fragments, self.steps = Ledger(), Ledger()

    def arrive(self, steps: int) -> None:
        """A fragment arrived and is queued."""
        self.add("produced", steps)
        self.add("in_queue", steps)

    def leave(self, place: str, steps: int) -> None:
        """A waiting fragment was trained on, dropped_stale or dropped_overflow."""
        self.add("in_queue", -steps, -1)
        self.add(place, steps)

    def lose(self, steps: int) -> None:
        """A fragment will never arrive."""
        self.add("lost", steps)

    def add(self, place: str, steps: int, fragments: int = 1) -> None:
        """Adds to one place of both ledgers."""
        for ledger, count in ((self.steps, steps), (self.fragments, fragments)):
            setattr(ledger, place, getattr(ledger, place) + count)

    def report(self) -> dict[str, dict[str, int]]:
        """Both ledgers as plain integers, after checking that they add up."""
        self.fragments.check()
        self.steps.check()
        return {"fragments": asdict(self.fragments), "steps": asdict(self.steps)}

    def load(self, saved: dict[str, dict[str, int]]) -> None:
        """Continues the ledger of an earlier session, whose queued fragments are lost."""
        for name, ledger in (("fragments", self.fragments), ("steps", self.steps)):
            for field in fields(Ledger):
                setattr(ledger, field.name, int(saved[name][field.name]))
            ledger.produced -= ledger.in_queue
            ledger.lost += ledger.in_queue
            ledger.in_queue = 0
            ledger.check()
