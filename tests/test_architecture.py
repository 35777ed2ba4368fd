"""Imports point one way, heavy packages have one importer each, and `import parl` is quick.

core < ops < models, envs, report < algorithms, agents < recipes, remote < runs < deploy, the face
(the modules right under parl/) < studies < cli. The source is parsed, not imported: imports inside
functions count, too.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import parl

ROOT = Path(parl.__file__).parent
TOP = "top"  # the face: parl, parl.api and parl.face

# what each package may import of parl, beside itself
BASE = {"core", "ops"}
LEARNING = {*BASE, "models", "envs", "algorithms", "agents"}
RUN = {*LEARNING, "recipes", "remote", "report"}
ALLOWED = {
    "core": set(),
    "ops": {"core"},
    "models": BASE,
    "envs": BASE,
    "report": BASE,
    "algorithms": {*BASE, "models"},
    "agents": {*BASE, "envs"},  # protocols only: never a concrete algorithm or network
    "remote": {*BASE, "envs", "agents"},
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
    "matplotlib": {"report"},
    "tyro": {"cli"},
    "rich": {"report", "cli"},
    "tensorboardX": {"report"},
    "pickle": set(),
    "cloudpickle": set(),
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
    return parts[1] if len(parts) > 1 and (ROOT / parts[1]).is_dir() else TOP


def imported(node: ast.AST) -> list[str]:
    """Dotted names that a statement imports; of `from a import b` both a and a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def trees() -> Iterator[tuple[str, str, ast.Module]]:
    """(path, package, syntax tree) of every module."""
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        package = relative.parts[0] if len(relative.parts) > 1 else TOP
        yield str(relative), package, ast.parse(path.read_text())


@functools.cache
def imports() -> list[Import]:
    return [
        Import(f"{path}:{node.lineno}", package, name)  # type: ignore[attr-defined]
        for path, package, tree in trees()
        for node in ast.walk(tree)
        for name in imported(node)
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
    assert packages <= ALLOWED.keys(), "a new package needs a line in ALLOWED"


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


def test_the_face_is_three_modules() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "api.py", "face.py"}


@pytest.mark.parametrize("package", OWNERS)
def test_heavy_and_dangerous_packages_have_their_importers(package: str) -> None:
    wrong = [i for i in imports() if within(i.name, package) and i.source not in OWNERS[package]]
    assert not wrong, "\n".join(map(str, wrong))


def test_plain_flax_means_struct_outside_models() -> None:
    """`import flax` would be a way around the rule above."""
    names = {i.name for i in imports() if within(i.name, "flax") and i.source != "models"}
    assert names <= {"flax.struct"}, names


def test_nothing_is_evaluated() -> None:
    calls = [
        f"{path}:{node.lineno}"
        for path, _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"eval", "exec", "__import__"}
    ]
    assert not calls, calls


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_parl_takes_less_than_a_second() -> None:
    """Of the processor's time: a busy machine is no slow import."""
    code = "import time; t = time.process_time(); import parl; print(time.process_time() - t)"
    assert any(float(python(code)) < 1.0 for _ in range(3))


@pytest.mark.parametrize("code", ["import parl", "import parl; parl.train, parl.Agent, parl.Step"])
def test_heavy_packages_are_not_loaded_early(code: str) -> None:
    """Neither by the import, nor by the names that everyone uses."""
    heavy = ("ray", "gymnasium", "pettingzoo", "mujoco", "dm_control", "brax", "matplotlib")
    loaded = python(f"{code}; import sys; print([m for m in {heavy} if m in sys.modules])")
    assert loaded == "[]"


def test_every_public_name_can_be_loaded() -> None:
    missing = python(
        "import parl; print([n for n in parl.__all__ if not hasattr(parl, n)], 'parl' in dir(parl))"
    )
    assert missing == "[] False"
