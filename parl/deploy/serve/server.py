"""Runs the application under uvicorn, on this machine only unless there is a token."""

import importlib.util
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parl.core.errors import ConfigError, MissingPackage
from parl.core.sockets import BACKLOG, is_local, url_of
from parl.deploy.serve.application import Application
from parl.deploy.serve.limits import Limits
from parl.runs.interruption import interrupted

KEEP_ALIVE = 75  # seconds that an unused connection stays open
LEAST = 16  # letters of a token
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


def check_packages() -> None:
    """Raises MissingPackage where the server cannot run."""
    for name in ("uvicorn", "httptools"):
        if importlib.util.find_spec(name) is None:
            raise MissingPackage(f"parl serve needs {name}: pip install 'parl-jax[serve]'")


def token_in(path: Path) -> str:
    """The token in a file that nobody else can read. Raises ConfigError for any other file."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{path} is no file: --token-file is one that holds a token.")
            if found.st_mode & 0o077 or found.st_uid not in (os.geteuid(), 0):
                raise ConfigError(
                    f"{path} can be read or written by others: chmod 600 {path}, and take another "
                    "token, since they may know this one."
                )
            text = file.read(4097).decode("ascii").strip()
    except OSError as error:
        raise ConfigError(f"the token file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        text = ""
    if not LEAST <= len(text) <= 4096 or any(not letter.isprintable() for letter in text):
        raise ConfigError(
            f"{path} holds no token of {LEAST} to 4,096 letters in one line; make one: "
            f"(umask 077; openssl rand -hex 32 > {path})"
        )
    return text


def check_host(host: str, token: str | None) -> None:
    """Raises ConfigError where others would reach a server that has no token."""
    if token is None and not is_local(host):
        raise ConfigError(
            f"others can reach --host {host}, so it takes a token: --token-file FILE, made with "
            "(umask 077; openssl rand -hex 32 > FILE). Without one it is 127.0.0.1 only."
        )


def run(
    application: Application, listener: socket.socket, limits: Limits, say: Callable[[str], Any]
) -> None:
    """Serves until a signal ends it: then what was asked is answered, and Interrupted is raised."""
    import uvicorn  # pyright: ignore[reportMissingImports]

    from parl.deploy.serve.guard import Connection

    class Server(uvicorn.Server):
        """uvicorn's, with the signals that commands of ours end with."""

        ended_by = signal.SIGTERM

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            before = {each: signal.signal(each, self.note) for each in SIGNALS}
            try:
                yield
            finally:
                for each, handler in before.items():
                    signal.signal(each, handler)

        def note(self, signum: int, frame: Any) -> None:
            """The first signal ends politely, the second at once."""
            self.force_exit = self.should_exit
            self.ended_by, self.should_exit = signal.Signals(signum), True
            application.is_ready = False

    config = uvicorn.Config(
        application,
        http=Connection,
        ws="none",
        lifespan="on",
        loop="auto",
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(limits.seconds) + 5,
        backlog=BACKLOG,
    )
    server = Server(config)
    say(url_of(listener))
    server.run(sockets=[listener])
    count = sum(application.metrics.requests.values())
    raise interrupted(f"{count:,} requests were answered, none is left.", server.ended_by)
