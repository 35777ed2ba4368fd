"""The newest line of a run's metrics for Prometheus, at http://127.0.0.1:PORT/metrics."""

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parl.core.errors import ConfigError, MissingPackage

NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")
SEEDS = "_seeds"  # behind the names of lists with one number per seed


class Exporter:
    """Listens to a run and answers on loopback with the numbers of its newest line.

    Each is a gauge parl_NAME with the labels run, algorithm and env; parts of lists have a label
    seed, the others an empty one. Only the process that learns answers: it keeps the books.
    """

    def __init__(self, port: int):
        self.port = port
        self.labels: dict[str, str] = {}
        self.line: dict[str, Any] = {}
        self.written = 0.0  # Unix time of the newest line
        self.seeds: list[int] = []
        self.server: Any = None

    def on_start(self, told: dict[str, Any]) -> None:
        """Begins to listen. Raises MissingPackage, and ConfigError where the port is taken.

        A run that is resumed goes on without, and that is said.
        """
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError as error:
            raise MissingPackage(
                "--metrics-port needs prometheus_client: pip install 'parl-jax[metrics]'"
            ) from error
        config = told["config"]
        named = {"run": Path(told["path"]).name, "algorithm": config["algorithm"]}
        self.labels = named | {"env": config["env"]}
        self.seeds = [config["seed"] + k for k in range(config["num_seeds"])]
        registry = CollectorRegistry()
        try:
            self.server, _ = start_http_server(self.port, "127.0.0.1", registry)
        except OSError as error:
            said = f"cannot listen at 127.0.0.1:{self.port} for --metrics-port: {error.strerror}"
            if not told["env_steps"]:
                raise ConfigError(f"{said}; choose another port.") from error
            print(f"WARNING: {said}; the run goes on without.", file=sys.stderr)
            return
        registry.register(self)

    def on_record(self, line: dict[str, Any]) -> None:
        """Takes a line."""
        self.line, self.written = line, time.time()

    def on_end(self, result: dict[str, Any]) -> None:
        """Ends the answers: what is not there any more shall not look as if it went on."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()

    def collect(self) -> Iterator[Any]:
        """The gauges, as prometheus_client asks for them."""
        from prometheus_client.core import GaugeMetricFamily

        for name, values in gauges(self.line, self.seeds).items():
            family = GaugeMetricFamily(f"parl_{name}", "", labels=[*self.labels, "seed"])
            for seed, value in values.items():
                family.add_metric([*self.labels.values(), seed], value)
            yield family
        about = "Unix time of the line that these numbers are of."
        age = GaugeMetricFamily("parl_line_time_seconds", about, labels=[*self.labels])
        age.add_metric([*self.labels.values()], self.written)
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
