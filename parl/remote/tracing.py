"""Traces of a worker's fragments, on whatever machine it is."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import jax


class Traced(NamedTuple):
    """Whose fragments are traced, and where the traces go."""

    worker: int
    versions: range  # of the policies that act in them
    place: Path
    say: Callable[[str], None] = lambda text: None

    def wants(self, worker: int, version: int) -> bool:
        """Whether a fragment is to be traced."""
        return worker == self.worker and version in self.versions

    def keep(self, version: int, trace: bytes) -> None:
        """Writes a trace that arrived."""
        self.place.mkdir(parents=True, exist_ok=True)
        path = self.place / f"worker-{self.worker}-policy-{version}.json.gz"
        path.write_bytes(trace)
        self.say(f"traced: {path}, for https://ui.perfetto.dev")


class Tracing:
    """Traces what is done within, Python's calls and JAX's programs, if `wanted`."""

    def __init__(self, wanted: bool):
        self.wanted, self.result = wanted, b""

    def __enter__(self) -> Self:
        if self.wanted:
            self.folder = tempfile.TemporaryDirectory(prefix="parl-trace-")
            jax.profiler.start_trace(self.folder.name, create_perfetto_trace=True)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.wanted:
            jax.profiler.stop_trace()
            found = next(Path(self.folder.name).rglob("perfetto_trace.json.gz"))
            self.result = found.read_bytes()
            self.folder.cleanup()
