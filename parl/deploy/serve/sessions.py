"""What policies remember between the requests of an episode, in bounded room and time."""

import time
from collections import OrderedDict
from collections.abc import Callable

from parl.deploy.policy import State
from parl.deploy.serve.limits import Limits, Refusal
from parl.deploy.serve.store import Served

Key = tuple[str, str]  # the policy's name, the session's


class Session:
    """An episode, or several side by side. It keeps the version of the policy it began with."""

    __slots__ = ("rows", "served", "state", "used")

    def __init__(self, served: Served, rows: int, now: float):
        self.served, self.rows, self.used = served, rows, now
        self.state: State = served.policy.start(rows)


class Sessions:
    """Sessions by policy and name; those unused for long are forgotten."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self.limits, self.clock = limits, clock
        self.kept: OrderedDict[Key, Session] = OrderedDict()  # the longest unused first
        self.rows = 0  # of all sessions

    def find(self, key: Key) -> Session | None:
        """The session, now used; None where there is none, or no longer."""
        self.expire()
        session = self.kept.get(key)
        if session is not None:
            session.used = self.clock()
            self.kept.move_to_end(key)
        return session

    def open(self, key: Key, served: Served, rows: int) -> Session:
        """A session at the start of an episode, in place of one of that name. Raises Refusal."""
        self.expire()
        earlier = self.kept.get(key)
        others = self.rows - (earlier.rows if earlier is not None else 0)
        if others + rows > self.limits.sessions:
            raise Refusal(
                429,
                f"{others:,} environments are remembered and {self.limits.sessions:,} is the most: "
                f'end sessions with "end": true, or wait until unused ones are forgotten after '
                f"{self.limits.idle:g} s.",
                retry_after="1",
            )
        self.close(key)
        self.kept[key] = session = Session(served, rows, self.clock())
        self.rows += rows
        return session

    def close(self, key: Key) -> None:
        """Forgets a session."""
        session = self.kept.pop(key, None)
        if session is not None:
            self.rows -= session.rows

    def expire(self) -> None:
        """Forgets those that were unused for too long."""
        oldest = self.clock() - self.limits.idle
        while self.kept:
            key, session = next(iter(self.kept.items()))
            if session.used > oldest:
                return
            self.close(key)
