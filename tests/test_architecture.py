"""Imports point one way, heavy packages have one importer each, and `import parl` is quick.

core < ops < models, envs, datasets, report, planning < algorithms, agents < recipes, remote < runs
< deploy, the face (the modules right under parl/) < studies < cli. The source is parsed, not
imported: imports inside functions count, too.
"""

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import parl

ROOT = Path(parl.__file__).parent
TOP = "top"  # the face: parl, parl.api and parl.face
FACE = "api"  # the package that is part of it

# what each package may import of parl, beside itself
BASE = {"core", "ops"}
LEARNING = {*BASE, "models", "envs", "planning", "algorithms", "agents"}
RUN = {*LEARNING, "recipes", "remote", "report", "datasets"}
ALLOWED = {
    "core": set(),
    "ops": {"core"},
    "models": BASE,
    "envs": BASE,
    "report": BASE,
    "datasets": BASE,
    "planning": BASE,
    "algorithms": {*BASE, "models", "planning"},
    "agents": {*BASE, "envs"},  # protocols only: never a concrete algorithm or network
    "remote": {*BASE, "envs", "agents", "report"},
    "recipes": {*BASE, "models", "algorithms", "agents"},
    "runs": RUN,
    "deploy": {*RUN, "runs"},
    TOP: {*RUN, "runs", "deploy"},
    "studies": {*RUN, "runs", "deploy", TOP},
    "cli": {*RUN, "runs", "deploy", TOP, "studies"},
}

# packages that only some of ours may import, and which ones
OWNERS = {
    "flax.linen": {"models"},
    "flax.nnx": {"models"},
    "ray": {"remote"},
    "gymnasium": {"envs"},
    "pettingzoo": {"envs"},
    "mujoco": {"envs"},
    "dm_control": {"envs"},
    "brax": {"envs"},
    "gymnax": {"envs"},
    "pgx": {"envs"},
    "jumanji": {"envs"},
    "navix": {"envs"},
    "craftax": {"envs"},
    "ogbench": {"envs"},
    "mctx": {"planning"},
    "matplotlib": {"report"},
    "tyro": {"cli"},
    "h5py": {"datasets"},
    "fsspec": {"core"},
    "rich": {"report", "cli"},
    "tensorboardX": {"report"},
    "pickle": set(),
    "cloudpickle": {"envs"},  # to processes that it starts itself; never from files
    "dill": set(),
    "marshal": set(),
    "shelve": set(),
    "joblib": set(),
}


class Import(NamedTuple):
    """`place` imports `name`; `source` is the package that place lies in."""

    place: str
    source: str
    name: str


def package_of(name: str) -> str:
    """The package of ours that a dotted name such as parl.core.spec lies in."""
    parts = name.split(".")
    room = parts[1] if len(parts) > 1 and (ROOT / parts[1]).is_dir() else TOP
    return TOP if room == FACE else room


def imported(node: ast.AST) -> list[str]:
    """Dotted names that a statement imports; of `from a import b` both a and a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


@functools.cache
def nodes() -> list[tuple[str, str, ast.AST]]:
    """(place, package, node) of every import and call in the source."""
    return list(walk())


def walk() -> Iterator[tuple[str, str, ast.AST]]:
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        package = package_of(".".join(("parl", *relative.with_suffix("").parts)))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
                yield f"{relative}:{node.lineno}", package, node


@functools.cache
def imports() -> list[Import]:
    return [
        Import(place, package, name) for place, package, node in nodes() for name in imported(node)
    ]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_the_walk_sees_the_code() -> None:
    found = imports()
    assert {i.source for i in found} >= {*("core", "ops", "models", "algorithms", "agents"), TOP}
    assert any(i.source == "models" and i.name == "flax.linen" for i in found)
    assert len(found) > 200


def test_every_package_has_its_place() -> None:
    packages = {p.name for p in ROOT.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert packages <= ALLOWED.keys() | {FACE}, "a new package needs a line in ALLOWED"


def test_imports_point_one_way() -> None:
    wrong = [
        i
        for i in imports()
        if within(i.name, "parl")
        if package_of(i.name) not in ALLOWED[i.source] | {i.source}
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_the_allowed_directions_have_no_cycle() -> None:
    order: list[str] = []
    left = dict(ALLOWED)
    while left:
        free = [package for package, below in left.items() if below <= set(order)]
        assert free, left
        order += free
        left = {package: below for package, below in left.items() if package not in free}
    assert order.index("core") < order.index("ops") < order.index("models")
    assert order.index("models") < order.index("algorithms") < order.index("recipes")
    assert order.index("envs") < order.index("agents") < order.index("remote")
    assert order.index("remote") < order.index("runs") < order.index(TOP) < order.index("cli")


def test_the_face_is_one_module_and_one_package() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "face.py"}
    assert (ROOT / FACE).is_dir()


@pytest.mark.parametrize("package", OWNERS)
def test_heavy_and_dangerous_packages_have_their_importers(package: str) -> None:
    wrong = [i for i in imports() if within(i.name, package) and i.source not in OWNERS[package]]
    assert not wrong, "\n".join(map(str, wrong))


def test_plain_flax_means_struct_outside_models() -> None:
    """`import flax` would be a way around the rule above."""
    names = {i.name for i in imports() if within(i.name, "flax") and i.source != "models"}
    assert names <= {"flax.struct"}, names


RUNS_PACKAGES = "deploy/submit/games.py"  # in a sandbox, as Kaggle runs them


def test_nothing_is_evaluated() -> None:
    calls = [
        place
        for place, _, node in nodes()
        if not place.startswith(RUNS_PACKAGES)
        and isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"eval", "exec", "__import__"}
    ]
    assert not calls, calls


FRESH = """
import json
import sys
import time
start = time.process_time()
import parl
found = {"seconds": time.process_time() - start, "imported": list(sys.modules)}
parl.train, parl.Agent, parl.Step
found["used"] = list(sys.modules)
found["missing"] = [name for name in parl.__all__ if not hasattr(parl, name)]
found["itself"] = "parl" in dir(parl)
print(json.dumps(found))
"""


def fresh() -> dict[str, Any]:
    """What a new interpreter finds when it imports parl."""
    command = [sys.executable, "-c", FRESH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return fresh()


def test_import_parl_takes_less_than_a_second(found: dict[str, Any]) -> None:
    """Of the processor's time: a busy machine is no slow import."""
    assert found["seconds"] < 1.0 or any(fresh()["seconds"] < 1.0 for _ in range(2))


@pytest.mark.parametrize("after", ["imported", "used"])
def test_heavy_packages_are_not_loaded_early(after: str, found: dict[str, Any]) -> None:
    """Neither by the import, nor by the names that everyone uses."""
    heavy = {"ray", "gymnasium", "pettingzoo", "mujoco", "dm_control", "brax", "mctx"}
    heavy |= {"matplotlib"}
    assert not heavy & set(found[after])


def test_every_public_name_can_be_loaded(found: dict[str, Any]) -> None:
    assert (found["missing"], found["itself"]) == ([], False)
