"""Trials that are trained together: rows of one program, each with a run directory of its own.

Each is trained by `parl.train` or `parl.resume` in a thread, of which one runs at a time: they hand
over where their executions advance, and then all advance as one.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from parl.agents.execution import joined
from parl.agents.execution.protocol import Discarded, Execution, Report
from parl.core.errors import Halted
from parl.runs.build import Parts
from parl.runs.executions import make_execution, making
from parl.runs.interruption import Interrupted, Signals, interrupted
from parl.runs.layout import better_in_turn

T = TypeVar("T")
CHANGING = frozenset(("set_state", "restore", "restart", "change"))
READING = frozenset(("policy", "state", "algorithm_state", "snapshot", "lend"))


def all_together(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """The results of tasks, in their order; each trains one run, and the runs advance together.

    Runs of one structure are rows of one program, any other is trained by itself. A signal saves
    and ends all of them, and so does an error of one after the others have ended.
    """
    group, results, errors = Together(len(tasks)), {}, {}

    def work(index: int) -> None:
        making.set(group.make)
        with group.turn:
            try:
                results[index] = tasks[index]()
            except BaseException as error:
                errors[index] = error
            finally:
                group.leave()

    with Signals() as signals:
        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(tasks))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if signals.signum:
        raise interrupted("the trials are saved; the same command goes on.", signals.signum)
    for error in errors.values():
        if not isinstance(error, Interrupted):
            raise error
    return [results[i] for i in range(len(tasks))]


def in_batches(tasks: Sequence[Callable[[], T]], size: int) -> Iterator[tuple[list[T], float]]:
    """(results, seconds for each) of so many tasks at a time, one after the other if that is 1."""
    for start in range(0, len(tasks), size):
        begin, batch = time.monotonic(), tasks[start : start + size]
        done = [batch[0]()] if len(batch) == 1 else all_together(batch)
        yield done, (time.monotonic() - begin) / len(batch)


class Group(NamedTuple):
    """Runs that advance as one."""

    run: Any  # an execution: of one run its own
    members: "list[tuple[Row, joined.Rows | None]]"


class Together:
    """Has the executions of all tasks advance as one; a thread runs while it holds `turn`."""

    def __init__(self, count: int):
        self.turn = threading.Condition()
        self.working = count  # tasks that have not ended
        self.rows: list[Row] = []
        self.groups: list[Group] = []

    def make(self, parts: Parts, *rest: Any) -> Any:
        """The execution of a run, as a row."""
        row = Row(make_execution(parts, *rest), self, better_in_turn(parts.config, parts.recipe))
        self.rows.append(row)
        return row

    def leave(self) -> None:
        """A task has ended."""
        self.working -= 1
        self.turn.notify_all()

    def advance(self, row: "Row", iterations: int) -> Report:
        """Waits until all want to advance; the last one to come does it for all."""
        row.wanted, row.answer = iterations, None
        while row.answer is None:
            waiting = sum(bool(each.wanted) and each.answer is None for each in self.rows)
            if waiting == self.working:
                self.advance_all()
                self.turn.notify_all()
            else:
                self.turn.wait()
        answer, row.wanted, row.answer = row.answer, 0, None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def advance_all(self) -> None:
        """Has each group advance as far as all of its rows want to."""
        if any(row.changed for row in self.rows):
            self.regroup()
        for run, members in self.groups:
            going = [row for row, _ in members if row in self.rows]
            if not going:
                continue
            try:
                report = run.advance(min(row.wanted for row in going))
            except Exception as error:
                for row in going:
                    row.answer = error
                continue
            for row, rows in members:
                row.take(report, run, rows)

    def regroup(self) -> None:
        """Joins the runs that are of one kind now."""
        alike: dict[Any, list[Row]] = {}
        for row in self.rows:
            row.bring()
            kind = joined.kind_of(row.own)
            alike.setdefault(row if kind is None else kind, []).append(row)
        self.groups = [group_of(rows) for rows in alike.values()]


def group_of(rows: "list[Row]") -> Group:
    """Runs of one kind as a group."""
    for row in rows:
        row.changed = False
    if len(rows) == 1:
        return Group(rows[0].own, [(rows[0], None)])
    run = joined.joined([row.own for row in rows], rows[0].in_turn)
    width = len(rows[0].own.seeds.values)
    return Group(run, [(row, joined.Rows(i * width, row.own.seeds)) for i, row in enumerate(rows)])


class Row:
    """The execution of one run, which advances with others; see `Execution` for its methods."""

    def __init__(self, own: Execution, together: Together, in_turn: bool):
        self.own: Any = own
        self.together, self.in_turn = together, in_turn
        self.wanted = 0  # iterations
        self.answer: Report | Exception | None = None
        self.changed = True  # whether the state is not the one in its group
        self.source: Any = None  # (joined run, rows of it) whose state is newer than `own`'s
        self.stopped: Callable[[], bool] = lambda: False

    def __getattr__(self, name: str) -> Any:
        """Everything else is that of its own execution, which has the newest state first."""
        if name in READING or name in CHANGING:
            self.bring()
        self.changed = self.changed or name in CHANGING
        return getattr(self.own, name)

    def advance(self, iterations: int) -> Report:
        """Advances as many iterations as all want, or fewer. Raises Halted after a signal."""
        if self.stopped():
            raise Halted("the trials are not to go on.")
        return self.together.advance(self, iterations)

    def take(self, report: Report, run: Any, rows: "joined.Rows | None") -> None:
        """Takes its part of what was learned."""
        self.answer = report if rows is None else rows.report(report)
        if rows is not None:
            self.own.iteration, self.source = run.iteration, (run, rows)

    def bring(self) -> None:
        """Brings its own execution to the newest state."""
        if self.source is not None:
            joined.take_back(self.own, *self.source)
            self.source = None

    @property
    def discarded(self) -> Discarded:
        """Updates that came to nothing, without bringing all of the state."""
        if self.source is None:
            return self.own.discarded
        run, rows = self.source
        return rows.discarded(run)

    def heed(self, stopped: Callable[[], bool]) -> None:
        """Has `advance` end after `stopped` is true."""
        self.stopped = stopped
        self.own.heed(stopped)

    def close(self) -> None:
        """Leaves its group."""
        self.together.rows.remove(self)
        self.own.close()
