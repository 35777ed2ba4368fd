"""Steps policies: at once where that is quick, else whatever waits acts together.

Nothing waits for more to come: a batch is what is in the queue when the one before is done.
"""

import asyncio
import sys
import traceback
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ArtefactError, told
from parl.deploy.policy import Policy, State
from parl.deploy.serve.limits import Limits, Refusal, busy
from parl.deploy.serve.metrics import Metrics
from parl.deploy.serve.sessions import Session
from parl.deploy.serve.store import Served

Outputs = dict[str, np.ndarray]


class Job(NamedTuple):
    """A step that is asked for."""

    inputs: dict[str, np.ndarray]  # [B, ...] by name, what networks see
    rows: int
    session: Session | None = None
    first: Any = None  # [B] bool, where an episode opens; None: nowhere
    seed: int | None = None  # draw with it

    def ready(self, policy: Policy) -> tuple[dict[str, np.ndarray], State]:
        """(what networks see, what is remembered before the step); frames are stacked."""
        if self.session is None:
            return self.inputs, policy.start(self.rows)
        state = self.session.state
        state = state if self.first is None else policy.reset(state, self.first)
        return policy.stacked(self.inputs, state)


# --- one step, and several together -----------------------------------------------------------


def step(policy: Policy, job: Job) -> tuple[Outputs, State]:
    """(outputs, the next state) of a job. Raises Refusal where they are not finite."""
    inputs, state = job.ready(policy)
    outputs, state = policy.run(inputs, job.rows, state, job.seed)
    return checked(outputs, state)


def checked(outputs: Outputs, state: State) -> tuple[Outputs, State]:
    """Both unchanged. Raises Refusal where they hold NaN or infinity."""
    for values in (outputs, state.memory):
        for x in values.values():
            if x.dtype.kind == "f" and not np.isfinite(x).all():
                raise Refusal(
                    422, "the policy has no finite action for this observation: it is too large."
                )
    return outputs, state


def steps(policy: Policy, jobs: Sequence[Job]) -> list[tuple[Outputs, State] | Exception]:
    """`step` of greedy jobs in one call; what it raises, where it raises."""
    ready = [job.ready(policy) for job in jobs]
    states = [state for _, state in ready]
    inputs = joined([seen for seen, _ in ready])
    rows = sum(job.rows for job in jobs)
    outputs, state = policy.run(inputs, rows, State(joined([s.memory for s in states])))
    results: list[tuple[Outputs, State] | Exception] = []
    end = 0
    for job, before in zip(jobs, states, strict=True):
        start, end = end, end + job.rows
        memory = {name: x[start:end] for name, x in state.memory.items()}
        try:
            mine = {name: x[start:end] for name, x in outputs.items()}
            results.append(checked(mine, State(memory, before.time + 1)))
        except Refusal as error:
            results.append(error)
    return results


def joined(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays [sum of B, ...] by name."""
    return {name: np.concatenate([each[name] for each in rows]) for name in rows[0]}


def attempt(policy: Policy, jobs: Sequence[Job]) -> list[tuple[Outputs, State] | Exception]:
    """What became of jobs, several of which are greedy."""
    try:
        return steps(policy, jobs) if len(jobs) > 1 else [step(policy, jobs[0])]
    except Exception as error:
        return [translated(error)] * len(jobs)


def translated(error: Exception) -> Refusal:
    """The answer to what a step raised."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ArtefactError):
        return Refusal(422, str(error))
    traceback.print_exception(error, file=sys.stderr)
    return Refusal(500, f"the policy failed: {told(error)}")


# --- the queue --------------------------------------------------------------------------------


class Waiting(NamedTuple):
    """A job in the queue."""

    job: Job
    future: asyncio.Future[tuple[Outputs, State]]


class Queue:
    """The jobs of one policy that cannot act at once. They act in another thread."""

    def __init__(self, policy: Policy, stepper: "Stepper"):
        self.policy, self.stepper = policy, stepper
        self.waiting: deque[Waiting] = deque()
        self.is_acting = False

    def add(self, job: Job) -> asyncio.Future[tuple[Outputs, State]]:
        """The future result of a job; where it is cancelled, its session does not move."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(job, loop.create_future())
        self.waiting.append(waiting)
        if not self.is_acting:
            self.is_acting = True
            loop.call_soon(self.act)  # what is read in this turn of the loop acts, too
        return waiting.future

    def act(self) -> None:
        """Starts the next batch."""
        batch = self.take()
        self.is_acting = bool(batch)
        if not batch:
            self.stepper.queues.pop(id(self.policy), None)
            return
        self.stepper.metrics.batches.add(sum(each.job.rows for each in batch))
        jobs = [each.job for each in batch]
        loop, threads = asyncio.get_running_loop(), self.stepper.threads
        done = loop.run_in_executor(threads, attempt, self.policy, jobs)
        done.add_done_callback(lambda done: self.finish(batch, done))

    def take(self) -> list[Waiting]:
        """The next jobs that can act together: greedy ones, or one that draws; of a session one."""
        batch: list[Waiting] = []
        sessions: set[int] = set()
        left: deque[Waiting] = deque()
        rows = 0
        while self.waiting:
            each = self.waiting.popleft()
            job = each.job
            if each.future.done():
                continue
            alone = job.seed is not None or (batch and batch[0].job.seed is not None)
            taken = job.session is not None and id(job.session) in sessions
            if batch and (alone or taken or rows + job.rows > self.stepper.limits.rows):
                left.append(each)
            else:
                batch.append(each)
                rows += job.rows
            if job.session is not None:
                sessions.add(id(job.session))  # what comes later of it waits, too
        self.waiting = left
        return batch

    def finish(self, batch: list[Waiting], done: asyncio.Future[Any]) -> None:
        """Hands over results, and goes on."""
        try:
            results = done.result()
        except BaseException as error:  # the threads have ended
            results = [busy(f"the server is ending: {type(error).__name__}.")] * len(batch)
        for each, result in zip(batch, results, strict=True):
            if each.future.done():  # nobody waits any more
                continue
            if isinstance(result, Exception):
                each.future.set_exception(result)
                continue
            if each.job.session is not None:
                each.job.session.state = result[1]
            each.future.set_result(result)
        self.act()


class Stepper:
    """Steps policies, each in its own way."""

    def __init__(self, threads: Executor, limits: Limits, metrics: Metrics):
        self.threads, self.limits, self.metrics = threads, limits, metrics
        self.queues: dict[int, Queue] = {}  # those that act, by their policies' ids

    async def __call__(self, served: Served, job: Job) -> Outputs:
        """The outputs of a job, whose session has moved on. Raises Refusal."""
        if not served.is_quick:
            queue = self.queues.setdefault(id(served.policy), Queue(served.policy, self))
            return (await queue.add(job))[0]
        try:
            outputs, state = step(served.policy, job)
        except Exception as error:
            raise translated(error) from None
        if job.session is not None:
            job.session.state = state
        return outputs
