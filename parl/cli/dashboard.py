"""parl dashboard [DIR] [--port N]."""

import dataclasses
from pathlib import Path

import tyro

from parl.cli.flags import Flags, parse
from parl.core.settings import declared


@dataclasses.dataclass(frozen=True)
class DashboardFlags(Flags):
    """Show the runs in a directory on a page of this machine, while they learn.

    The page is for this machine alone, and it only reads. It ends with Ctrl-C.
    """

    dir: tyro.conf.Positional[Path] = Path("runs")
    """Where to look, with all directories below."""
    port: int = declared(8080, low=0, high=65535)
    """Port; 0 for any that is free."""


def run(arguments: list[str]) -> int:
    """parl dashboard [DIR] [flags]: until a signal ends it."""
    flags = parse(DashboardFlags, arguments, "parl dashboard")
    from parl.core.sockets import listen, url_of
    from parl.studies.dashboard.server import Server
    from parl.studies.dashboard.watched import Watched

    watched = Watched(flags.dir)
    with listen("127.0.0.1", flags.port) as listener, Server(listener, watched) as server:
        print(f"{url_of(listener)}/ shows the runs in {watched.place}; Ctrl-C ends it", flush=True)
        server.serve_forever()
    return 0
