"""Shared by all tests: compiled programs are kept from one session to the next."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# compiling takes most of the tests' time, and tiny networks run fast enough without
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


@pytest.fixture(autouse=True, scope="session")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One cache for this session's processes, so that subprocesses compile once."""
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    cache = str(Path(shared) / "xla")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache

    import jax

    jax.config.update("jax_compilation_cache_dir", cache)
