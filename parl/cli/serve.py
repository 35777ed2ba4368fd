"""parl serve DIR|RUN ... [--port N] [--backend B] [--reload]."""

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from parl.cli.flags import Flags, parse
from parl.core.errors import ConfigError
from parl.core.settings import declared, path_of
from parl.core.store import uri_of

if TYPE_CHECKING:
    from parl.deploy.serve.limits import Limits
    from parl.deploy.serve.store import Shelf


@dataclasses.dataclass(frozen=True)
class ServeFlags(Flags):
    """Let policies act over HTTP: POST /act, and KServe's protocol under /v2."""

    policies: tyro.conf.Positional[tuple[str, ...]]
    """Exported policies, or runs: a directory, or NAME=DIR. Numbered directories in it are
    versions."""
    port: int = declared(8000, low=0, high=65535)
    """Port; 0 for any that is free."""
    host: str = "127.0.0.1"
    """Address to listen on; others than this machine's own need a token."""
    token_file: Path | None = None
    """A file that only you can read, with the token that clients have to send."""
    backend: str = declared("numpy", choices=("numpy", "onnx", "stablehlo", "jax"))
    """What acts; jax is for runs that are not exported."""
    sessions: int = declared(10_000, low=1, high=10_000_000)
    """Environments that recurrent policies remember, at most."""
    max_rows: int = declared(256, low=1, high=65_536)
    """Observations in one request, at most."""
    reload: bool = False
    """Take over changed files and new versions, where they act as their samples say."""


def run(arguments: list[str]) -> int:
    """parl serve DIR|RUN ... [flags]: until a signal ends it."""
    flags = parse(ServeFlags, arguments, "parl serve")
    from parl.core.sockets import LOCAL, listen
    from parl.deploy.serve import server
    from parl.deploy.serve.application import Application
    from parl.deploy.serve.limits import Limits

    server.check_packages()
    if not flags.policies:
        raise ConfigError("parl serve takes the directory of an exported policy, or of a run.")
    token = None if flags.token_file is None else server.token_in(flags.token_file)
    server.check_host(flags.host, token)
    limits = Limits(rows=flags.max_rows, sessions=flags.sessions)
    with listen(flags.host, flags.port) as listener:
        shelves = opened(flags, limits)
        hosts = None if token is not None else LOCAL | {flags.host.lower()}
        application = Application(shelves, limits, token, hosts, flags.reload)
        announce(shelves)
        server.run(application, listener, limits, lambda url: print(f"{url}/act", flush=True))
    return 0


def opened(flags: ServeFlags, limits: "Limits") -> list["Shelf"]:
    """The policies by their names. Raises ConfigError, ArtefactError."""
    from parl.deploy.serve import store

    shelves: dict[str, Shelf] = {}
    for text in flags.policies:
        name, place = named(text)
        if name in shelves:
            raise ConfigError(f"two policies are called {name}: name them with NAME=DIR.")
        is_run = any((place / file).is_file() for file in ("config.json", "manifest.json"))
        if is_run and not store.versions_in(place):
            shelves[name] = of_run(name, place, flags, limits)
        else:
            shelves[name] = store.opened(name, place, flags.backend, limits)
    return list(shelves.values())


def named(text: str) -> tuple[str, Path]:
    """(name, directory) of DIR or NAME=DIR; policy/ in a run has the run's name."""
    name, equals, rest = text.partition("=")
    if equals and not Path(text).exists():
        return name, here(rest)
    place = Path(text).absolute()
    return (place.parent.name if place.name == "policy" else place.name), here(text)


def here(text: str) -> Path:
    """The directory of a path, or of a copy of the run at a URI, for which alone JAX is loaded."""
    if not uri_of(text):
        return path_of(text)
    from parl.runs.fetch import run_path

    return run_path(text)


def of_run(name: str, place: Path, flags: ServeFlags, limits: "Limits") -> "Shelf":
    """The policy of a run, exported to a directory that is gone once it is loaded."""
    from parl import api
    from parl.deploy import artefact, backends
    from parl.deploy.serve import store

    if flags.reload:
        raise ConfigError(
            f"--reload watches exported policies, and {place} is a run: parl export it first."
        )
    agent = api.load(place)
    forms = () if flags.backend == "jax" else (flags.backend,)
    print(f"parl: {name}: exporting the run's policy", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="parl-serve-") as folder:
        made = api.export(agent, out=Path(folder) / name, to=forms, episodes=0)
        if made.failures:
            raise ConfigError(f"{place} cannot be served: {made.failures[0]}")
        act = None
        if flags.backend == "jax":
            source = artefact.Source(agent.algorithm, agent.weights, agent.spec, None, {})
            parts = artefact.parts_of(source, artefact.Settings())
            act = backends.needing_less(backends.jax_backend(parts.whole, parts.maps), parts.whole)
        return store.opened(name, made.path, flags.backend, limits, act)


def announce(shelves: list["Shelf"]) -> None:
    """A line for each version."""
    for shelf in shelves:
        for served in shelf.versions.values():
            print(
                f"{served.title}: {served.backend}, {served.seconds * 1e6:.0f} us an action, "
                f"sha256 {served.digest[:12]}"
            )
