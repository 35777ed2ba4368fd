"""The dashboard's server: a page, JSON and pictures, for readers on this machine alone.

It answers GET and HEAD, writes nothing, and refuses requests whose Host header names another
machine, so that a page of the Internet whose name leads here cannot read runs.
"""

import base64
import hashlib
import json
import re
import shutil
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from parl.core.errors import ParlError
from parl.core.sockets import LOCAL, without_port
from parl.report.plotting import COLORS
from parl.studies.dashboard.watched import Watched
from parl.studies.find import GREEDY

PAGE = Path(__file__).with_name("page.html")
SILENCE = 20.0  # seconds after which a connection that says nothing is closed
Query = dict[str, list[str]]


class Server(ThreadingHTTPServer):
    """Serves the runs of a directory on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, watched: Watched):
        super().__init__(listener.getsockname()[:2], Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.watched = listener, watched
        self.page = PAGE.read_text().replace("{colors}", json.dumps(COLORS)).encode()
        self.policy = policy_of(self.page.decode())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that is gone is no event."""


def policy_of(page: str) -> str:
    """The content security policy under which only the page's own script and style run."""

    def digest(tag: str) -> str:
        found = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert found is not None
        return base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()

    return (
        "default-src 'none'; connect-src 'self'; img-src 'self'; media-src 'self'; "
        f"script-src 'sha256-{digest('script')}'; style-src 'sha256-{digest('style')}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "parl", ""
    timeout = SILENCE

    def do_GET(self) -> None:
        try:
            if without_port(self.headers.get("Host", "").lower()) not in LOCAL:
                self.refuse(403, "ask for 127.0.0.1 or localhost: this page is for this machine.")
                return
            asked = urlsplit(self.path)
            answer = ANSWERS.get(asked.path)
            if answer is None:
                self.refuse(404, f"there is nothing at {asked.path[:200]}.")
                return
            answer(self, parse_qs(asked.query, keep_blank_values=True))
        except ParlError as error:
            self.refuse(404, str(error))
        except ConnectionError:
            self.close_connection = True
        except Exception as error:
            self.refuse(500, f"{type(error).__name__}: {error}"[:500])

    do_HEAD = do_GET

    # --- answers ----------------------------------------------------------------------------

    def page(self, query: Query) -> None:
        self.send(self.server.page, "text/html; charset=utf-8")

    def runs(self, query: Query) -> None:
        self.send_json(self.server.watched.overview())

    def curves(self, query: Query) -> None:
        one = lambda name, default: query.get(name, [default])[0]
        asked = one("metric", GREEDY), one("x", "env_steps"), one("by", "")
        self.send_json(self.server.watched.compared(query.get("run", []), *asked))

    def run(self, query: Query) -> None:
        self.send_json(self.server.watched.told(query.get("name", [""])[0]))

    def file(self, query: Query) -> None:
        name, file = query.get("name", [""])[0], query.get("file", [""])[0]
        path, kind = self.server.watched.picture(name, file)
        with path.open("rb") as source:
            self.head(200, kind, path.stat().st_size)
            if self.command == "GET":
                shutil.copyfileobj(source, self.wfile)

    # --- what all answers have --------------------------------------------------------------

    def send_json(self, content: Any) -> None:
        self.send(json.dumps(content, allow_nan=False).encode(), "application/json")

    def send(self, body: bytes, kind: str, status: int = 200) -> None:
        self.head(status, kind, len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def refuse(self, status: int, sentence: str) -> None:
        self.send(json.dumps({"error": sentence}).encode(), "application/json", status)

    def head(self, status: int, kind: str, size: int) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(size),
            "Cache-Control": "no-store",
            "Content-Security-Policy": self.server.policy,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a page asks every other second."""


ANSWERS: dict[str, Callable[[Handler, Query], None]] = {
    "/": Handler.page,
    "/api/runs": Handler.runs,
    "/api/curves": Handler.curves,
    "/api/run": Handler.run,
    "/file": Handler.file,
}
