"""The newest lines of runs' metrics for Prometheus, at http://127.0.0.1:PORT/metrics."""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from parl.core.errors import ConfigError, MissingPackage

HOST = "127.0.0.1"
NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")
SEEDS = "_seeds"  # behind the names of lists with one number per seed


class Newest(NamedTuple):
    """The newest line of a run; plain values."""

    labels: dict[str, str]  # run, algorithm, env
    seeds: list[int]
    line: dict[str, Any]
    written: float  # Unix time of the line; 0 before the first one

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Newest":
        """Of a run that begins, from what `on_start` is told."""
        config = told["config"]
        named = {"run": Path(told["path"]).name, "algorithm": config["algorithm"]}
        seeds = [config["seed"] + k for k in range(config["num_seeds"])]
        return cls(named | {"env": config["env"]}, seeds, {}, 0.0)

    def followed_by(self, line: dict[str, Any]) -> "Newest":
        """With a line that was written now."""
        return self._replace(line=line, written=time.time())


class Exporter:
    """Listens to a run and answers on loopback with the numbers of its newest line.

    Only the process that learns answers: it keeps the books.
    """

    def __init__(self, port: int):
        self.port = port
        self.newest: Newest | None = None
        self.server: Any = None

    def on_start(self, told: dict[str, Any]) -> None:
        """Begins to listen. Raises MissingPackage, and ConfigError where the port is taken.

        A run that is resumed goes on without, and that is said.
        """
        check_package()
        self.newest = Newest.of(told)
        try:
            self.server = serve(self.port, self)
        except OSError as error:
            said = f"cannot listen at {HOST}:{self.port} for --metrics-port: {error.strerror}"
            if not told["env_steps"]:
                raise ConfigError(f"{said}; choose another port.") from error
            print(f"WARNING: {said}; the run goes on without.", file=sys.stderr)

    def on_record(self, line: dict[str, Any]) -> None:
        """Takes a line."""
        assert self.newest is not None
        self.newest = self.newest.followed_by(line)

    def on_end(self, result: dict[str, Any]) -> None:
        """Ends the answers: what is not there any more shall not look as if it went on."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()

    def collect(self) -> Iterator[Any]:
        """The gauges, as prometheus_client asks for them."""
        assert self.newest is not None
        return families([self.newest])


def check_package() -> None:
    """Raises MissingPackage."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise MissingPackage(
            "--metrics-port needs prometheus_client: pip install 'parl-jax[metrics]'"
        ) from error


def serve(port: int, collector: Any) -> Any:
    """A server on loopback that answers with what an object's `collect` yields. Raises OSError."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    server, _ = start_http_server(port, HOST, registry)
    registry.register(collector)
    return server


def families(runs: Sequence[Newest]) -> Iterator[Any]:
    """Gauges parl_NAME with the labels of the runs, which have the same ones, and the line's time.

    Parts of lists have a label seed, the others an empty one.
    """
    from prometheus_client.core import GaugeMetricFamily

    if not runs:
        return
    names = list(runs[0].labels)
    found: dict[str, Any] = {}
    for run in runs:
        for name, values in gauges(run.line, run.seeds).items():
            family = GaugeMetricFamily(f"parl_{name}", "", labels=[*names, "seed"])
            family = found.setdefault(name, family)
            for seed, value in values.items():
                family.add_metric([*run.labels.values(), seed], value)
    yield from found.values()
    about = "Unix time of the line that these numbers are of."
    age = GaugeMetricFamily("parl_line_time_seconds", about, labels=names)
    for run in runs:
        age.add_metric([*run.labels.values()], run.written)
    yield age


def gauges(line: dict[str, Any], seeds: list[int]) -> dict[str, dict[str, float]]:
    """The numbers of a line by name and seed, "" where they are of no single one."""
    found: dict[str, dict[str, float]] = {}
    for name, value in line.items():
        of = NOT_IN_NAMES.sub("_", name.removesuffix(SEEDS))
        parts = zip(map(str, seeds), value, strict=False) if isinstance(value, list) else ()
        for seed, number in parts or [("", value)]:
            if isinstance(number, int | float) and not isinstance(number, bool):
                found.setdefault(of, {})[seed] = float(number)
    return found
