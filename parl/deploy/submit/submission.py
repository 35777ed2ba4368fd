"""From an artefact to a package for a competition, tested: SUBMISSION.json says what was found."""

import ast
import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ConfigError
from parl.core.numbers import from_json
from parl.core.settings import path_of
from parl.deploy import contract as contracts
from parl.deploy import samples
from parl.deploy.artefact import replace
from parl.deploy.check import check
from parl.deploy.contract import Contract, Leaf
from parl.deploy.submit import sandbox
from parl.deploy.submit.competitions import Competition, competition
from parl.deploy.submit.packages import Package, Parts, unpacked
from parl.envs.ids import apart

FILE = "SUBMISSION.json"
RAWS = 24  # observations that are played
CPU_SECONDS = 1800
NAMES = ("observe", "act")  # that an adapter must define
# what the fallback had to act for, by the kind of a player's fault
FAULTS = {"late": "slow act", "illegal": "illegal action", "error": "error in act"}


class Settings(NamedTuple):
    """How a package is made and tested."""

    adapter: Path | None = None
    python: Path | None = None
    recorded: Path | None = None
    games: int = 20
    timeout: float = 600.0


@dataclasses.dataclass(frozen=True)
class Submission:
    """What was written, and what was found."""

    path: Path  # the directory
    package: Path
    report: dict[str, Any]  # SUBMISSION.json

    @property
    def failures(self) -> list[str]:
        """What is wrong, a sentence each, which begins with its name."""
        return self.report["failures"]


def submit(place: Path, name: str, out: Path, settings: Settings) -> Submission:
    """Writes the package of the artefact in `place`, and tests it. Nothing is uploaded.

    Raises ConfigError for what does not fit, ArtefactError for a damaged artefact.
    """
    chosen = competition(name)
    wrong = check(place)[1]
    if wrong:
        raise ConfigError(f"{place} does not act as it was written: {wrong[0]}")
    found = contracts.read(place)
    source = adapter_of(settings.adapter, chosen)
    own, _ = apart(found.values["environment"]["id"])
    default = own if own and shutil.which(own) else sys.executable
    python = sandbox.interpreter(settings.python, default)
    parts = Parts(
        (place / contracts.CONTRACT).read_bytes(),
        (place / contracts.WEIGHTS).read_bytes(),
        source,
        chosen.seconds,
        chosen.first,
    )
    package = chosen.package(parts)
    written = write(out, package)
    job = job_of(place, found, chosen, package, settings)
    report = sandbox.run(python, job, unpacked(written), settings.timeout)
    told = told_of(report, chosen, package, written, found, source, python)
    (out / FILE).write_text(json.dumps(told, indent=1) + "\n")
    return Submission(out, written, told)


def adapter_of(path: Path | None, chosen: Competition) -> str | None:
    """The source of the adapter. Raises ConfigError where one is missing or is none."""
    if path is None:
        if chosen.adapted:
            raise ConfigError(
                f"{chosen.name} shows other observations than the policy takes: give --adapter "
                "adapter.py with observe(raw, config) and act(action, raw, config)."
            )
        return None
    try:
        source = Path(path).read_text()
        tree = ast.parse(source)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--adapter {path} cannot be read: {error}.") from error
    except SyntaxError as error:
        raise ConfigError(
            f"--adapter {path} is no Python: {error.msg}, line {error.lineno}."
        ) from (error)
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if missing := [name for name in NAMES if name not in defined]:
        raise ConfigError(f"--adapter {path} defines no function {missing[0]}.")
    return source


def forbidden_imports(source: str | None, allowed: set[str]) -> list[str]:
    """The modules that a source imports beside the standard library and those allowed."""
    names = []
    for node in ast.walk(ast.parse(source or "")):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    tops = dict.fromkeys(name.partition(".")[0] for name in names)
    return [name for name in tops if name not in {*sys.stdlib_module_names, *allowed}]


def write(out: Path, package: Package) -> Path:
    """Writes the package into a directory in place of an earlier one; where it lies.

    Raises ConfigError where the directory holds something else.
    """
    place = path_of(out).absolute()
    if place.exists() and not place.is_dir():
        raise ConfigError(f"{out} is a file: choose another --out.")
    if place.is_dir() and any(place.iterdir()) and not (place / FILE).is_file():
        odd = min(file.name for file in place.iterdir())
        raise ConfigError(
            f"{out} holds something else than a submission, such as {odd}: choose another --out."
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{place.name}.writing-", dir=place.parent))
    (new / FILE).write_text("{}\n")
    try:
        package.write(new / package.file, package.files)
        replace(new, place)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return place / package.file


def job_of(
    place: Path, found: Contract, chosen: Competition, package: Package, settings: Settings
) -> dict[str, Any]:
    """What the sandbox is to do."""
    raws = recorded_of(settings.recorded) if settings.recorded else own_raws(place, found)
    if chosen.adapted and not settings.recorded:
        raws = []  # an adapter takes the competition's observations, not ours
    own = [Path(name).stem for name in package.files]
    return {
        "kind": chosen.name.partition(":")[0],
        "entry": package.entry,
        "seconds": chosen.seconds,
        "first": chosen.first,
        "address_space": 0
        if chosen.adapted and chosen.module
        else chosen.memory + sandbox.HEADROOM,
        "cpu": CPU_SECONDS,
        "provides": list(chosen.provides),
        "own": ["submission", *own],
        "module": chosen.module,
        "game": chosen.game,
        "games": settings.games,
        "environment": apart(found.values["environment"]["id"])[1],
        "space": space_of(found) if settings.adapter is None else None,
        "raws": json.dumps(raws).encode(),
        "samples": (place / samples.FILE).read_bytes(),
    }


def space_of(found: Contract) -> dict[str, Any] | None:
    """The bounds of the environment's action; None where agents have different ones."""
    each = found.values["actions"].get("env_action")
    if each is None:
        return None
    shape = tuple(each["shape"])
    space: dict[str, Any] = {"shape": list(shape)}
    for key in ("low", "high"):
        bound = from_json(each[key], (int(np.prod(shape)),), np.float64)
        space[key] = [str(x) for x in bound]  # JSON has no infinity
    return space


# --- recorded observations --------------------------------------------------------------------


def own_raws(place: Path, found: Contract) -> list[Any]:
    """[raw, None, info] each: the artefact's samples as the environment shows them."""
    case = samples.read(place, found.programs["greedy"])
    needed = {port.name for port in found.programs["greedy"].inputs}
    leaves = [leaf for leaf in found.leaves if leaf.name in needed]
    count = min(len(case.rows.scale), RAWS)
    return [raw_of(leaves, {n: x[0, i] for n, x in case.rows.obs.items()}) for i in range(count)]


def raw_of(leaves: list[Leaf], seen: dict[str, np.ndarray]) -> list[Any]:
    """[raw, None, info] of what networks see [...], by name."""
    tree: Any = Branch()
    info: dict[str, Any] = {}
    for leaf in leaves:
        x = seen[leaf.name] / leaf.scale if leaf.scale != 1 else seen[leaf.name]
        x = x.reshape(leaf.own_shape)
        x = x.astype(np.int64) + leaf.shift if leaf.counts is not None else x
        if leaf.source[:1] == ("info",) and leaf.name == "obs.legal":
            info[leaf.source[1]] = encoded(x)
        elif not leaf.source:
            return [encoded(x), None, info]
        else:
            place(tree, leaf.source, encoded(x))
    return [items(tree), None, info]


def place(tree: dict[Any, Any], path: tuple[Any, ...], value: Any) -> None:
    """Puts a value at a path of keys."""
    for key in path[:-1]:
        tree = tree.setdefault(key, Branch())
    tree[path[-1]] = value


class Branch(dict):
    """A part of an observation that has parts."""


def items(tree: Any) -> Any:
    """Nested dicts as JSON that keeps integers as keys."""
    if isinstance(tree, Branch):
        return {"items": [[key, items(value)] for key, value in tree.items()]}
    return tree


def encoded(x: np.ndarray) -> dict[str, Any]:
    """An array as JSON."""
    return {"array": x.ravel().tolist(), "dtype": x.dtype.name, "shape": list(x.shape)}


def recorded_of(path: Path) -> list[Any]:
    """[raw, config, info] each, of a JSON list of observations or of pairs with a config.

    Raises ConfigError for anything else.
    """
    try:
        values = json.loads(Path(path).read_text())
        if not isinstance(values, list) or not values:
            raise ValueError("it is no list of observations")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--recorded {path} cannot be read: {error}.") from error
    pair = lambda x: isinstance(x, list) and len(x) == 2
    return [[*each, {}] if pair(each) else [each, {}, {}] for each in values]


# --- the report -------------------------------------------------------------------------------


def told_of(
    report: dict[str, Any],
    chosen: Competition,
    package: Package,
    written: Path,
    found: Contract,
    source: str | None,
    python: str,
) -> dict[str, Any]:
    """SUBMISSION.json: hashes, times, scores, and what is wrong."""
    files = [written] if written.is_file() else sorted(p for p in written.rglob("*") if p.is_file())
    hashes = {str(p.relative_to(written.parent)): contracts.digest(p.read_bytes()) for p in files}
    size = sum(p.stat().st_size for p in files)
    failures = failures_of(report, chosen, size, source)
    provenance = found.values["provenance"]
    return {
        "format": "parl submission",
        "for": chosen.name,
        "package": package.file,
        "bytes": size,
        "sha256": hashes,
        "policy": {"contract": found.values["sha256"], **provenance},
        "interpreter": {"path": python} | {n: report.get(n) for n in ("python", "numpy")},
        "network": "a namespace without one" if sandbox.network_namespace() else "an audit hook",
        "limits": {
            "seconds": chosen.seconds,
            "first_seconds": chosen.first,
            "bytes": chosen.num_bytes,
            "memory": chosen.memory,
        },
        "tested_with": report.get("tested_with", "nothing"),
        "recorded_observations": report.get("recorded", 0),
        "times": times_of(report["seconds"]),
        "peak_bytes": report.get("peak_bytes"),
        "equality": report.get("equality"),
        "played": report["played"],
        "failures": failures,
        "upload": chosen.upload.format(file=written),
    }


def failures_of(
    report: dict[str, Any], chosen: Competition, size: int, source: str | None
) -> list[str]:
    """What is wrong, each with its name in front."""
    found: dict[str, list[str]] = {name: list(told) for name, told in report["found"].items()}

    def note(kind: str, what: str) -> None:
        if what not in found.setdefault(kind, []):
            found[kind].append(what)

    allowed = {"numpy", *chosen.provides, "policy", "player", "adapter"}
    for name in forbidden_imports(source, allowed):
        note("forbidden import", name)
    for kind, what in report["faults"]:
        refused = what.startswith(("PermissionError", "ImportError"))
        if not (refused and report["found"]):  # else it is there under its own name
            note(FAULTS[kind], f"the fallback had to act: {what}")
    seconds = report["seconds"]
    if seconds and seconds[0] > chosen.first:
        note("slow act", f"the first took {seconds[0]:.2f} s of {chosen.first:g}")
    if seconds[1:] and max(seconds[1:]) > chosen.seconds:
        note("slow act", f"one took {max(seconds[1:]):.2f} s of {chosen.seconds:g}")
    if size > chosen.num_bytes:
        note("too large", f"{size:,} bytes of {chosen.num_bytes:,}")
    if (report.get("peak_bytes") or 0) > chosen.memory:
        note("too much memory", f"{report['peak_bytes']:,} bytes of {chosen.memory:,}")
    return [f"{kind}: {what}" for kind, all_of in found.items() for what in all_of]


def times_of(seconds: list[float]) -> dict[str, Any]:
    """Milliseconds of acts: the first one, and of all others the median, p99 and largest."""
    if not seconds:
        return {"acts": 0}
    rest = 1e3 * np.array(seconds[1:] or seconds)
    p50, p99 = np.percentile(rest, (50, 99))
    numbers = {"first_ms": 1e3 * seconds[0], "p50_ms": p50, "p99_ms": p99, "max_ms": rest.max()}
    return {"acts": len(seconds)} | {name: round(float(x), 3) for name, x in numbers.items()}
