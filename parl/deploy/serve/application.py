"""The ASGI application: routes, and a request from its head to its action.

It opens no file: policies are in memory before the first request. Hot reload reads files in a
thread of its own, once a second.
"""

import asyncio
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from parl.core.errors import told
from parl.deploy.serve import act, kserve
from parl.deploy.serve.acting import Acting
from parl.deploy.serve.exchange import (
    TEXT,
    Answer,
    Door,
    Gone,
    Head,
    Receive,
    Send,
    head_of,
    refused,
    respond,
)
from parl.deploy.serve.limits import Limits, Refusal, busy
from parl.deploy.serve.metrics import Metrics
from parl.deploy.serve.store import Served, Shelf, encoded

POLL = 1.0  # seconds between two looks at the files
HEALTH = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")


class Application:
    """Policies as an ASGI application; `hosts` are the names that requests without a token use."""

    def __init__(
        self,
        shelves: Sequence[Shelf],
        limits: Limits | None = None,
        token: str | None = None,
        hosts: frozenset[str] | None = None,
        reload: bool = False,
    ):
        self.shelves = {shelf.name: shelf for shelf in shelves}
        limits = Limits() if limits is None else limits
        self.reload, self.door = reload, Door(token, hosts)
        self.metrics, self.is_ready = Metrics(), True
        self.act = Acting(limits, self.metrics)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "http":
            await self.exchange(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1003})

    # --- requests -----------------------------------------------------------------------------

    async def exchange(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request and its answer."""
        began = time.perf_counter()
        try:
            answer = await self.answer(scope, receive)
        except Gone:
            return
        except Refusal as error:
            answer = refused(error)
        except Exception as error:  # a fault of this application, which is not for the client
            traceback.print_exception(error, file=sys.stderr)
            answer = refused(Refusal(500, "the server has a fault, which its log explains."))
        self.metrics.requests[answer.policy, answer.status] += 1
        self.metrics.seconds.add(time.perf_counter() - began)
        await respond(answer, send)

    async def answer(self, scope: Any, receive: Receive) -> Answer:
        """The answer to a request. Raises Refusal, Gone."""
        head = head_of(scope)
        words = head.path.strip("/").split("/")
        if head.path in HEALTH:
            return self.health(head)
        self.door.check(head)
        if head.path == "/metrics":
            allow(head, "GET", "HEAD")
            return Answer(200, self.counts().encode(), TEXT)
        if words[0] == "act" and len(words) <= 3:
            allow(head, "POST")
            return await self.act(head, receive, self.served(words[1:]), len(words) > 2, act)
        if words[0] == "v2":
            return await self.kserve(head, words[1:], receive)
        raise Refusal(404, f"there is no {head.path[:80]}: POST /act, GET /healthz or /metrics.")

    async def kserve(self, head: Head, words: list[str], receive: Receive) -> Answer:
        """/v2, /v2/models/NAME[/versions/V][/ready|/infer]."""
        if words in ([], [""]):
            allow(head, "GET", "HEAD")
            return Answer(200, encoded(kserve.SERVER | {"models": sorted(self.shelves)}))
        if words[0] == "models" and len(words) > 1:
            names, rest = words[1:2], words[2:]
            if rest[:1] == ["versions"] and len(rest) > 1:
                names, rest = [*names, rest[1]], rest[2:]
            if rest == ["infer"]:
                allow(head, "POST")
                return await self.act(head, receive, self.served(names), len(names) > 1, kserve)
            if rest in ([], ["ready"]):
                allow(head, "GET", "HEAD")
                served = self.served(names)
                shelf = self.shelves[served.name]
                known = served.metadata | {"versions": sorted(shelf.versions, key=int)}
                return Answer(200, b"{}" if rest else encoded(known))
        raise Refusal(404, f"there is no {head.path[:80]} in this server's KServe protocol.")

    def served(self, words: list[str]) -> Served:
        """The policy at NAME[/VERSION], or the only one. Raises Refusal."""
        name, version, *_ = *words, None, None
        if not name and len(self.shelves) == 1:
            name = next(iter(self.shelves))
        if name not in self.shelves:
            known = ", ".join(sorted(self.shelves))
            if not name:
                raise Refusal(404, f"there are several policies: POST /act/NAME of {known}.")
            raise Refusal(404, f"there is no policy '{name[:40]}', but {known}.")
        return self.shelves[name].get(version)

    # --- the server's own state ---------------------------------------------------------------

    def health(self, head: Head) -> Answer:
        """Whether the process lives, and whether it takes requests."""
        allow(head, "GET", "HEAD")
        if head.path in ("/readyz", "/v2/health/ready") and not self.is_ready:
            raise busy("the server is ending.")
        return Answer(200, b"{}")

    def counts(self) -> str:
        """/metrics."""
        sessions = self.act.sessions
        sessions.expire()
        versions = [
            (shelf.name, version, served.digest)
            for shelf in self.shelves.values()
            for version, served in shelf.versions.items()
        ]
        gauges = {"sessions": len(sessions.kept), "pending": self.act.pending}
        return self.metrics.text(versions, gauges)

    async def live(self, receive: Receive, send: Send) -> None:
        """From the start of the server to its end."""
        watching = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if self.reload:
                    watching = asyncio.create_task(self.watch())
                await send({"type": "lifespan.startup.complete"})
            else:
                self.is_ready = False
                if watching is not None:
                    watching.cancel()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def watch(self) -> None:
        """Looks at the files again and again."""
        with ThreadPoolExecutor(1, "parl-reload") as thread:
            while True:
                await asyncio.sleep(POLL)
                for shelf in self.shelves.values():
                    try:
                        await self.refresh(shelf, thread)
                    except Exception as error:  # such as a directory that may not be read
                        line = f"parl: {shelf.name} is as before: {told(error)}"
                        print(line, file=sys.stderr, flush=True)

    async def refresh(self, shelf: Shelf, thread: ThreadPoolExecutor) -> None:
        """Takes over what changed in the files of a policy, where it acts as its samples say."""
        look: Callable[[], Any] = shelf.changed
        for version, now in await asyncio.get_running_loop().run_in_executor(thread, look):
            if isinstance(now, str):
                result, said = "refused", f"not served, the version before goes on: {now}"
            else:
                shelf.put(version, now)
                result = "removed" if now is None else "served"
                said = result if now is None else f"served now, sha256 {now.digest[:12]}"
            self.metrics.reloads[shelf.name, result] += 1
            print(f"parl: {shelf.name} version {version}: {said}", file=sys.stderr, flush=True)


def allow(head: Head, *methods: str) -> None:
    """Raises Refusal for another method."""
    if head.method not in methods:
        raise Refusal(
            405, f"{head.path[:80]} takes {' or '.join(methods)}.", allow=", ".join(methods)
        )
