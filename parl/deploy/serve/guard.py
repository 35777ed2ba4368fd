"""uvicorn's HTTP connection with limits on heads, on silence and on the number of connections."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import (  # pyright: ignore[reportMissingImports]
    STATUS_LINE,
    HttpToolsProtocol,
)

from parl.deploy.serve.store import encoded

HEAD = 1 << 16  # bytes of a head, at most
CONNECTIONS = 2048
SECONDS = 10.0  # in which a head has to be there
LINGER = 1.0  # seconds in which a client that still sends may read why it was refused


class Connection(HttpToolsProtocol):
    """One connection. What is no HTTP gets an answer in JSON, as all else does."""

    head = 0  # bytes of a head that is not complete; -1 behind it
    waiting: asyncio.TimerHandle | None = None
    is_refused = False
    has_ended = False  # whether a request ended in the data that are read

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self.refuse(503, "there are too many connections: come again in a moment.")
            return
        self.watch(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        self.unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_refused or self.transport.is_closing():
            return
        self.has_ended = False
        super().data_received(data)
        if self.head < 0 or self.is_refused or self.transport.is_closing():
            return
        if not self.head:  # it began in these data, perhaps behind another request
            self.head = 1 if self.has_ended else len(data)
            self.watch(SECONDS)
        else:
            self.head += len(data)
        if self.head > HEAD:
            self.refuse(431, f"the head of a request may have {HEAD:,} bytes.")

    def on_message_begin(self) -> None:
        self.head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.head = -1
        self.unwatch()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.has_ended = True
        super().on_message_complete()

    def watch(self, seconds: float) -> None:
        """Ends the connection unless a head is complete in time."""
        self.unwatch()
        self.waiting = self.loop.call_later(seconds, self.late)

    def unwatch(self) -> None:
        """For a head that is there."""
        if self.waiting is not None:
            self.waiting.cancel()
            self.waiting = None

    def late(self) -> None:
        """The head did not come."""
        if self.head > 0:
            self.refuse(408, f"the head of the request did not come within {SECONDS:g} s.")
        elif not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self.refuse(400, "this is no request of HTTP/1.1.")

    def refuse(self, status: int, sentence: str) -> None:
        """Answers without the application, and closes: at once, the answer would be lost."""
        self.unwatch()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # what was asked before gets no answer
            self.cycle.message_event.set()
        body = encoded({"error": sentence})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % len(body) + body)
        self.transport.write_eof()
        self.is_refused = True
        self.waiting = self.loop.call_later(LINGER, self.transport.close)
