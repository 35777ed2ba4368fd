"""The scripts in experiments/bench for their tests, which stays off the path: it has a jaxmarl."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from parl.core.yaml_text import parse_yaml

BENCH = Path(__file__).parents[1] / "experiments" / "bench"


def load(name: str) -> Any:
    """A script by its name, as `bench_NAME`: experiments/ has others of some names."""
    return imported(f"bench_{name}", BENCH / f"{name}.py")


def imported(name: str, path: Path) -> Any:
    """The module at a path, under a name."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


compare = imported("compare", BENCH / "compare.py")  # as the scripts beside it import it


def after(command: list[str], flag: str) -> list[str]:
    """The values that a flag is given, each time it is."""
    return [command[i + 1] for i, word in enumerate(command) if word == flag]


def settings(command: list[str]) -> dict[str, Any]:
    """What --set says."""
    given = (text.partition("=") for text in after(command, "--set"))
    return {name: parse_yaml(value) for name, _, value in given}
