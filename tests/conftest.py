"""Shared by all tests: compiling takes most of their time, and this is what makes it less."""

import gc
import importlib.util
import itertools
import mmap
import os
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

# compiling takes most of the tests' time, and tiny networks run fast enough without
QUICK_TO_COMPILE = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",
}


def known_flags(names: Iterable[str]) -> list[str]:
    """Those flags that the installed XLA has; an unknown one would end the process."""
    found = importlib.util.find_spec("jaxlib")
    folders = (found.submodule_search_locations if found else None) or []
    libraries = [file for folder in folders for file in Path(folder).glob("*.so")]
    library = max(libraries, key=lambda file: file.stat().st_size)
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        # a flag's name is a string of its own; in the schema of all options the removed ones stay
        return [name for name in names if text.find(b"\0" + name.encode() + b"\0") >= 0]


os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "XLA_FLAGS" not in os.environ:
    flags = [f"--{name}={QUICK_TO_COMPILE[name]}" for name in known_flags(QUICK_TO_COMPILE)]
    os.environ["XLA_FLAGS"] = " ".join(flags)

# files of the longest tests, which start first, so that neither process waits for the other's last
LONG = (
    "test_executions.py",
    "test_team_executions.py",
    "test_opponents.py",
    "test_remote_class.py",
    "test_training.py",
    "test_api.py",
    "test_resume.py",
    "test_survival.py",
    "test_programs.py",
    "test_runs.py",
    "test_cluster.py",
    "test_self_play_executions.py",
    "test_sharding.py",
    "test_hooks.py",
)

MANY_MAPS = 30_000
TESTS = itertools.count(1)
CACHED = 0.1  # seconds of compiling, from which on a program is worth a file


def pytest_collection_finish() -> None:
    """What is there before the tests stays: it need not be searched for garbage again."""
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of long tests first, all others as they were."""
    place = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


@pytest.fixture(autouse=True, scope="session")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One cache for this session's processes, so that subprocesses compile once."""
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    cache = str(Path(shared) / "xla")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = str(CACHED)

    import jax

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", CACHED)


# pure functions of arrays and settings, which tests call by themselves
OPS = (
    "active_agents", "agents_cut", "between_turns", "cut", "epsilon_greedy", "gae", "huber",
    "lambda_returns", "mean", "mean_of_team", "member_transitions", "n_step", "own_transitions",
    "permutation", "retrace", "standardize", "uniform_action", "vtrace",
)  # fmt: skip
CALLERS = ("algorithms", "models", "ops")  # folders of tests that do


# those return what they were given, an optimiser, or keep what they return
UNCHANGED = ("replace", "memory", "policy", "optimizer", "policy_rule", "discounted")


def descendants(kind: type) -> list[type]:
    """The classes below a class, as far as they are loaded."""
    below = kind.__subclasses__()
    return below + [each for one in below for each in descendants(one)]


def functions_of(kind: type) -> list[str]:
    """Names of an algorithm's own functions of arrays."""
    own = {name: x for name, x in vars(kind).items() if isinstance(x, types.FunctionType)}
    return [name for name in own if name[0] != "_" and name not in UNCHANGED]


@pytest.fixture(autouse=True, scope="module")
def calls_are_compiled(compilation_cache: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Networks, algorithms and ops are programs, as in every run, where tests call them alone."""
    if request.path.parent.name not in CALLERS:
        yield
        return
    from compiled import compiled
    from flax import linen

    from parl import ops
    from parl.core.algorithm import Algorithm
    from parl.models import Agents

    methods = [(kind, name) for kind in (linen.Module, Agents) for name in ("init", "apply")]
    methods += [(kind, name) for kind in descendants(Algorithm) for name in functions_of(kind)]
    with pytest.MonkeyPatch.context() as patch:
        for place, name in [*methods, *((ops, name) for name in OPS)]:
            patch.setattr(place, name, compiled(getattr(place, name)))
        yield


@pytest.fixture(autouse=True)
def no_word_of_slowness(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test reads on stderr does not depend on how slow the machine is."""
    from parl.report import announce

    monkeypatch.setattr(announce, "AFTER_S", 3600.0)


@pytest.fixture(autouse=True)
def room_for_programs() -> Iterator[None]:
    """Lets compiled programs go before the process may have no more memory maps, 65,530 of them.

    Each program takes several, and XLA ends the process where it gets no other one.
    """
    yield
    if next(TESTS) % 32:  # counting tens of thousands of maps takes 30 ms
        return
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MANY_MAPS:
        import jax

        jax.clear_caches()
