"""One HTTP exchange as ASGI has it: the head of a request, its body within limits, the answer."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from parl.core.sockets import without_port
from parl.deploy.serve.limits import Limits, Refusal, busy
from parl.deploy.serve.store import encoded

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

JSON, BINARY, TEXT = b"application/json", b"application/octet-stream", b"text/plain; version=0.0.4"
LENGTH = b"inference-header-content-length"
FOLLOWED = 4  # bodies of up to so many times the limit are read to their end before the refusal


class Gone(Exception):
    """The client has closed its connection."""


class Head(NamedTuple):
    """What a server looks at in the head of a request."""

    method: str
    path: str
    host: bytes | None
    authorization: bytes
    length: int | None  # of the body
    json_length: int | None  # of the JSON in it
    encoding: bytes


class Answer(NamedTuple):
    """A response."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    policy: str = ""  # whose action it is, for the metrics


def head_of(scope: Any) -> Head:
    """The head of a request. Raises Refusal for lengths that are no numbers."""
    given = dict(scope["headers"])
    return Head(
        scope["method"],
        scope["path"].removeprefix(scope.get("root_path", "")),  # where it is mounted
        given.get(b"host"),
        given.get(b"authorization", b""),
        number(given.get(b"content-length")),
        number(given.get(LENGTH)),
        given.get(b"content-encoding", b"identity").lower(),
    )


def number(text: bytes | None) -> int | None:
    """A length. Raises Refusal for what is none."""
    if text is None:
        return None
    if not (text.isdigit() and len(text) < 19):
        raise Refusal(400, f"a length in the head is {text[:40]!r}, which is no number.")
    return int(text)


class Door:
    """Who may come in: whoever knows the token, or without one whoever names this machine."""

    def __init__(self, token: str | None, hosts: frozenset[str] | None):
        self.secret = None if token is None else b"Bearer " + token.encode()
        self.hosts = hosts

    def check(self, head: Head) -> None:
        """Raises Refusal where a request may not come in."""
        if self.secret is not None:
            if not hmac.compare_digest(head.authorization, self.secret):
                raise Refusal(
                    401,
                    "send the server's token in the header 'Authorization: Bearer TOKEN'.",
                    www_authenticate="Bearer",
                )
        elif self.hosts is not None and head.host is not None:
            # a page of the Internet whose name leads to this machine is not to use a local server
            name = head.host.decode("latin-1").lower()
            if without_port(name) not in self.hosts:
                raise Refusal(
                    403,
                    f"'{name[:80]}' is not the name of this machine: ask for 127.0.0.1 or "
                    "localhost, or serve with a token.",
                )


class Bodies:
    """Reads bodies, all of which together take bounded memory."""

    def __init__(self, limits: Limits):
        self.limits, self.held = limits, 0

    async def read(self, head: Head, receive: Receive, most: int) -> bytes:
        """A body of at most so many bytes, to be released once it is answered.

        Raises Refusal, Gone.
        """
        if head.encoding != b"identity":
            raise Refusal(415, "send the body as it is, without Content-Encoding.")
        if head.length is not None and head.length > most:
            await self.skip(head.length, most, receive)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    part = message.get("body", b"")
                    size += len(part)
                    self.held += len(part)
                    if size > most:
                        raise too_long(most, None, closes=True)
                    if self.held > self.limits.held:
                        raise busy("too many bodies are being read: send it again in a moment.")
                    parts.append(part)
                    if not message.get("more_body", False):
                        return parts[0] if len(parts) == 1 else b"".join(parts)
        except BaseException as error:
            self.held -= size
            if not isinstance(error, TimeoutError):
                raise
            raise Refusal(
                408, f"the body did not come within {self.limits.seconds:g} s.", connection="close"
            ) from None

    def release(self, body: bytes) -> None:
        """Makes room for others."""
        self.held -= len(body)

    async def skip(self, length: int, most: int, receive: Receive) -> None:
        """Refuses a body that is too long; a client that still sends may not see the answer."""
        if length > FOLLOWED * most:
            raise too_long(most, length, closes=True)
        try:
            async with asyncio.timeout(self.limits.seconds):
                while (message := await receive())["type"] != "http.disconnect":
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise too_long(most, length, closes=True) from None
        raise too_long(most, length, closes=False)


def too_long(most: int, length: int | None, closes: bool) -> Refusal:
    """The refusal of a body."""
    size = "longer" if length is None else f"{length:,} bytes long"
    headers = {"connection": "close"} if closes else {}
    return Refusal(413, f"a body may have {most:,} bytes here, and this one is {size}.", **headers)


def refused(refusal: Refusal) -> Answer:
    """The answer to a request that is not answered with an action."""
    body = encoded({"error": refusal.sentence})
    return Answer(refusal.status, body, JSON, tuple(refusal.headers))


async def respond(answer: Answer, send: Send) -> None:
    """Sends an answer."""
    headers = [
        (b"content-type", answer.kind),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
