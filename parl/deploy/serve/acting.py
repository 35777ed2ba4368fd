"""A request from its body to its action, with the session that it goes on with."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from parl.core.errors import ArtefactError
from parl.deploy.serve.asked import Asked, Inputs
from parl.deploy.serve.exchange import Answer, Bodies, Head, Receive
from parl.deploy.serve.limits import Limits, Refusal, busy
from parl.deploy.serve.metrics import Metrics
from parl.deploy.serve.queueing import Job, Outputs, Stepper
from parl.deploy.serve.sessions import Session, Sessions
from parl.deploy.serve.store import Served


class Acting:
    """Answers requests for actions, in either protocol: the module `act` or `kserve`."""

    def __init__(self, limits: Limits, metrics: Metrics):
        self.limits, self.metrics = limits, metrics
        self.bodies, self.sessions = Bodies(limits), Sessions(limits)
        self.stepper = Stepper(ThreadPoolExecutor(1, "parl-act"), limits, metrics)
        self.pending = 0  # requests under way

    async def __call__(
        self, head: Head, receive: Receive, served: Served, is_named: bool, protocol: Any
    ) -> Answer:
        """The action of a policy; `is_named` where its version was. Raises Refusal, Gone."""
        if self.pending >= self.limits.pending:
            raise busy(f"{self.limits.pending:,} requests are under way: send it in a moment.")
        end = time.monotonic() + self.limits.seconds
        self.pending += 1
        try:
            body = await self.bodies.read(head, receive, served.body)
            try:
                return await self.acted(protocol.read(body, head), served, is_named, protocol, end)
            finally:
                self.bodies.release(body)
        finally:
            self.pending -= 1

    async def acted(
        self, asked: Asked, served: Served, is_named: bool, protocol: Any, end: float
    ) -> Answer:
        """The action that is asked for, until `end` on the clock. Raises Refusal."""
        session = self.session(served, asked, is_named)
        served = served if session is None else session.served
        try:
            rows = None if session is None else session.rows
            made: Inputs = protocol.inputs(asked, served, rows)
        except ArtefactError as error:
            raise Refusal(422, str(error)) from None
        self.check_rows(made.rows, asked, session)
        self.check_frames(made, asked, served)
        job = self.job(served, asked, session, made)
        outputs = await self.stepped(served, job, end - time.monotonic())
        if asked.end and asked.session is not None:
            self.sessions.close((served.name, asked.session))
        self.metrics.rows[served.name] += made.rows
        return protocol.answer(served, outputs, asked, made)

    async def stepped(self, served: Served, job: Job, seconds: float) -> Outputs:
        """The outputs of a job, within some seconds. Raises Refusal."""
        if served.is_quick:
            return await self.stepper(served, job)
        try:
            async with asyncio.timeout(max(seconds, 0)):
                return await self.stepper(served, job)
        except TimeoutError:
            raise busy(
                f"no action within {self.limits.seconds:g} s, since others are before it."
            ) from None

    # --- sessions -----------------------------------------------------------------------------

    def session(self, served: Served, asked: Asked, is_named: bool) -> Session | None:
        """The session that goes on; None where one is opened, or none is needed."""
        if asked.session is None:
            if served.remembers:
                raise Refusal(
                    422,
                    f"{served.title} has memory: name a session, with 'first' true where its "
                    "episode opens.",
                )
            if asked.first is not False or asked.end:
                raise Refusal(422, "what opens or ends is a session: name one.")
            return None
        if asked.first is True:
            return None
        session = self.sessions.find((served.name, asked.session))
        if session is None:
            if isinstance(asked.first, list) and all(asked.first):
                return None
            raise Refusal(
                410,
                f"there is no session '{asked.session[:40]}': it was not opened, has ended or was "
                f"forgotten after {self.limits.idle:g} s; open it with 'first' true.",
            )
        if is_named and session.served.version != served.version:
            raise Refusal(
                409, f"the session began with version {session.served.version} and keeps it."
            )
        return session

    def check_rows(self, rows: int, asked: Asked, session: Session | None) -> None:
        """Raises Refusal where there are too many observations, or others than in the session."""
        if rows > self.limits.rows:
            raise Refusal(
                413, f"{rows:,} observations are too many: {self.limits.rows:,} at most at once."
            )
        if session is not None and session.rows != rows:
            raise Refusal(
                422, f"the session is of {session.rows} observations a step, this has {rows}."
            )
        if isinstance(asked.first, list) and len(asked.first) != rows:
            raise Refusal(422, f"'first' has {len(asked.first)} entries for {rows} observations.")

    def check_frames(self, made: Inputs, asked: Asked, served: Served) -> None:
        """Raises Refusal for single frames that belong to no session."""
        frames = served.policy.frames
        if frames is None or asked.session is not None:
            return
        if any(frames.are_single(x) for x in made.arrays.values()):
            raise Refusal(
                422,
                f"{served.title} sees the last {frames.stack.frames} frames: name a session, with "
                "'first' true where its episode opens, or give whole stacks.",
            )

    def job(self, served: Served, asked: Asked, session: Session | None, made: Inputs) -> Job:
        """The step that is asked for; a session that opens is opened. Raises Refusal."""
        if asked.seed is not None:
            try:
                served.policy.key(asked.seed)
            except ArtefactError as error:
                raise Refusal(422, str(error)) from None
        if asked.session is None:
            return Job(made.arrays, made.rows, seed=asked.seed)
        if session is None:
            session = self.sessions.open((served.name, asked.session), served, made.rows)
            return Job(made.arrays, made.rows, session, None, asked.seed)
        first = asked.first if isinstance(asked.first, list) and any(asked.first) else None
        return Job(made.arrays, made.rows, session, first, asked.seed)
