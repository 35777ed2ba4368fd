"""Traces of some iterations by JAX's profiler, for Perfetto (ui.perfetto.dev) and TensorBoard."""

import time
from pathlib import Path

import jax

FOLDER = "profile"  # in the run's directory


class Profiler:
    """Traces this process from the first of `iterations` to behind the last of them."""

    def __init__(self, iterations: range, run: Path):
        self.iterations, self.path = iterations, run / FOLDER
        self.is_on = False

    def left(self, iteration: int) -> int | None:
        """Iterations until tracing begins or ends; None where it is over."""
        bounds = (self.iterations.start, self.iterations.stop) if self.iterations else ()
        return next((bound - iteration for bound in bounds if iteration < bound), None)

    def at(self, iteration: int) -> str:
        """Begins or ends tracing before an iteration; a sentence where a trace was written."""
        if iteration in self.iterations and not self.is_on:
            self.path.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(self.path, create_perfetto_trace=True)
            self.is_on = True
        return "" if iteration in self.iterations else self.end()

    def end(self) -> str:
        """Ends tracing, where it is on; a sentence then."""
        if not self.is_on:
            return ""
        self.is_on, begin = False, time.time()
        jax.profiler.stop_trace()
        found = sorted(self.path.rglob("perfetto_trace.json.gz"))
        took = time.time() - begin
        return f"traced ({took:.1f} s to write): {found[-1]}, for https://ui.perfetto.dev"
