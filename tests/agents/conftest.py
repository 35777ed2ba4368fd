import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest
from compiled import compiled

from parl.agents.replay.hindsight import Hindsight
from parl.agents.replay.ring import Replay
from parl.agents.replay.sampling import NStep, Prioritized, Sampler
from parl.agents.replay.segments import Segments


@pytest.fixture(scope="module", autouse=True)
def keep_small_programs(compilation_cache: None) -> Iterator[None]:
    """Every run compiles its own initialisation: let them find each other's."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    yield
    jax.config.update(name, before)


@pytest.fixture
def compiled_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done with a replay on the device is one program, as in every run."""
    kinds = Replay, Sampler, NStep, Prioritized, Hindsight, Segments
    for kind in kinds:
        for name in ("add", "take", "index", "draw", "at", "learned"):
            if name in vars(kind):
                monkeypatch.setattr(kind, name, on_device(getattr(kind, name)))


def on_device(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a replay; of one in host memory it is no program."""
    program = compiled(method)

    @functools.wraps(method)
    def call(replay: Any, *args: Any) -> Any:
        return (method if replay.on_host else program)(replay, *args)

    return call
