from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def keep_small_programs(compilation_cache: None) -> Iterator[None]:
    """Every run compiles its own initialisation: let them find each other's."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    yield
    jax.config.update(name, before)
