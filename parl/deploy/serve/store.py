"""Policies that were loaded and have shown that they act as when they were written."""

import json
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ArtefactError, ConfigError, ParlError, told
from parl.deploy import check, contract, parity, samples
from parl.deploy.backends import BACKENDS, FILES, Backend
from parl.deploy.contract import CONTRACT
from parl.deploy.names import ACTION, ENV_ACTION, KEY
from parl.deploy.policy import Policy
from parl.deploy.serve.datatypes import DATATYPES
from parl.deploy.serve.limits import Limits, Refusal

BACKENDS_SERVED = ("numpy", "onnx", "stablehlo", "jax")
IN_JAX = ("stablehlo", "jax")
QUICK = 100e-6  # seconds: what acts in less does so at once, without a queue
CALLS = 20
NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class Served(NamedTuple):
    """One version of a policy, ready to act."""

    name: str
    version: str
    backend: str
    digest: str  # sha256 of its contract
    policy: Policy
    seconds: float  # of one action
    body: int  # bytes of a request's body, at most
    metadata: dict[str, Any]  # of KServe

    @property
    def is_quick(self) -> bool:
        """Whether it acts at once; else requests queue, and those that wait act together."""
        return self.seconds < QUICK and self.backend not in IN_JAX

    @property
    def remembers(self) -> bool:
        """Whether the policy has memory."""
        return bool(self.policy.contract.start)

    @property
    def title(self) -> str:
        """As it is called in sentences."""
        return f"{self.name} version {self.version}"


# --- loading ----------------------------------------------------------------------------------


def load(
    name: str, version: str, place: Path, backend: str, limits: Limits, act: Backend | None = None
) -> Served:
    """The artefact in a directory, whose hashes and samples are checked first.

    `act` is the policy in JAX, for the backend jax. Raises ArtefactError where the artefact is not
    as it was written or does not act so, MissingPackage where the backend cannot run here.
    """
    found = contract.read(place)
    wrong = check.damaged(found)
    if wrong:
        raise ArtefactError(f"{place}: {wrong[0]}")
    case = samples.read(place, found.programs["greedy"])
    policy = Policy(found)
    try:
        policy.runners |= runners(place, backend, policy, act)
        seconds, wrong = tried(backend, policy, case, limits)
    except ParlError:
        raise
    except Exception as error:  # whatever a runtime finds in a file
        raise ArtefactError(f"{place} cannot act by {backend}: {told(error)}") from error
    if wrong:
        raise ArtefactError(f"{place} does not act as when it was written: {wrong[0]}")
    numbers = sum(int(np.prod(reader.leaf.own_shape)) for reader in policy.readers)
    return Served(
        name,
        version,
        backend,
        found.values["sha256"],
        policy,
        seconds,
        limits.body(numbers),
        metadata(name, version, backend, policy),
    )


def tried(
    backend: str, policy: Policy, case: parity.Case, limits: Limits
) -> tuple[float, list[str]]:
    """(seconds of one action, how it acts otherwise than its samples say, in sentences)."""
    greedy = policy.runners["greedy"]
    _, wrong = check.compared(backend, greedy, case, policy.contract)
    row = {n: x[0, :1] for n, x in case.rows.obs.items()}
    if backend in IN_JAX and not wrong:
        compile_sizes(greedy, row, limits.rows)
    return duration(greedy, row), wrong


def runners(place: Path, backend: str, policy: Policy, act: Backend | None) -> dict[str, Any]:
    """The programs of a policy in a backend, as `Policy.run` calls them."""
    if backend == "numpy":
        return {}
    if backend == "jax":
        if act is None:
            raise ConfigError(
                f"{place} is exported, and the backend jax runs what is not: serve it with "
                "--backend numpy, onnx or stablehlo."
            )
        return {"greedy": padded(act)}
    if FILES[backend] not in policy.contract.files:
        raise ArtefactError(
            f"{place} holds no {FILES[backend]}: export it with --to {backend}, or serve it with "
            "--backend numpy."
        )
    made: dict[str, Any] = {"greedy": BACKENDS[backend](place)}
    if policy.can_sample:
        made["sample"] = BACKENDS[backend](place, "sample")
    if backend == "stablehlo":
        made["greedy"] = padded(made["greedy"])
        made["noise"] = lambda inputs, batch: {KEY: inputs[KEY]}  # it draws by itself
    return made


def padded(backend: Backend) -> Backend:
    """A backend that compiles for each size of a batch, called with powers of two only."""

    def act(given: dict[str, Any], batch: int) -> dict[str, Any]:
        size = 1 << (batch - 1).bit_length()
        if size == batch:
            return backend(given, batch)
        more = {
            n: np.concatenate([x, np.repeat(x[-1:], size - batch, 0)]) for n, x in given.items()
        }
        return {name: x[:batch] for name, x in backend(more, size).items()}

    return act


def compile_sizes(backend: Backend, row: dict[str, np.ndarray], most: int) -> None:
    """Compiles a padded backend for all batches, so that no request waits for it."""
    for power in range((most - 1).bit_length() + 1):
        backend({name: np.repeat(x, 1 << power, 0) for name, x in row.items()}, 1 << power)


def duration(backend: Backend, row: dict[str, np.ndarray]) -> float:
    """Seconds of one action, the least of some."""
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        backend(row, 1)
        times.append(time.perf_counter() - began)
    return min(times)


def metadata(name: str, version: str, backend: str, policy: Policy) -> dict[str, Any]:
    """What KServe's protocol says of a policy; what PARL's clients need besides is a parameter."""
    found = policy.contract
    ports = found.programs["greedy"].ports
    frames = {} if policy.frames is None else {"frame": list(policy.frames.frame)}
    inputs = [
        {
            "name": leaf.name,
            "datatype": "INT64" if leaf.counts is not None else DATATYPES[leaf.dtype],
            "shape": [-1, *leaf.own_shape],
            "parameters": {"source": list(leaf.source)} | frames,
        }
        for leaf in (reader.leaf for reader in policy.readers)
    ]
    outputs = [
        {
            "name": output,
            "datatype": DATATYPES[ports[value].dtype],
            "shape": [-1, *ports[value].shape[1:]],
        }
        for output, value in found.programs["greedy"].outputs.items()
        if output.startswith(ENV_ACTION) or output == ACTION
    ]
    parameters = {
        "sha256": found.values["sha256"],
        "environment": found.values["environment"].get("id"),
        "memory": bool(found.start),
        "samples": policy.can_sample,
    }
    return {
        "name": name,
        "versions": [version],
        "platform": f"parl_{backend}",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": parameters,
    }


# --- the shelf of one name --------------------------------------------------------------------


class Shelf:
    """The versions of a policy by their numbers. Without one asked for, the highest acts."""

    def __init__(
        self, name: str, place: Path, backend: str, limits: Limits, act: Backend | None = None
    ):
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"'{name}' is no name of a policy: letters, digits and _ . - are; give one with "
                "NAME=DIR."
            )
        self.name, self.place, self.backend, self.limits = name, place, backend, limits
        self.act = act  # in JAX, of the backend jax
        self.versions: dict[str, Served] = {}
        self.stamps: dict[str, Any] = {}  # of the files that were last tried, by version
        self.missed: set[str] = set()  # versions that were not there the last time

    def get(self, version: str | None) -> Served:
        """A version. Raises Refusal where there is none of that number."""
        if version is None:
            return self.versions[max(self.versions, key=int)]
        if version not in self.versions:
            known = ", ".join(sorted(self.versions, key=int))
            raise Refusal(404, f"{self.name} has no version '{version:.40}', but {known}.")
        return self.versions[version]

    def put(self, version: str, served: Served | None) -> None:
        """Replaces a version, or takes it away unless it is the only one."""
        if served is not None:
            self.versions[version] = served
        elif len(self.versions) > 1:
            self.versions.pop(version, None)

    def changed(self) -> list[tuple[str, Served | str | None]]:
        """The versions whose files changed since last looked at, as (version, what it is now).

        That is what was loaded, or why it was not, or None for one that is gone. It reads files,
        and changes no version, so that it may run beside requests.
        """
        found: list[tuple[str, Served | str | None]] = []
        places = versions_in(self.place)
        for version, place in places.items():
            stamp = stamp_of(place)
            if stamp == self.stamps.get(version):
                continue
            try:
                served = load(self.name, version, place, self.backend, self.limits, self.act)
                if stamp_of(place) != stamp:
                    continue  # it changed meanwhile; it is looked at again
                found.append((version, served))
            except ParlError as error:
                found.append((version, str(error)))
            self.stamps[version] = stamp
        missed = self.stamps.keys() - places.keys()
        for version in missed & self.missed:  # twice: files that are replaced are away for a moment
            found.append((version, None))
            del self.stamps[version]
        self.missed = missed
        return found


def versions_in(place: Path) -> dict[str, Path]:
    """The artefacts in a directory: itself, as version 1, or those in its numbered directories."""
    if (place / CONTRACT).is_file():
        return {"1": place}
    try:
        inside = [each for each in place.iterdir() if each.name.isdecimal()]
    except OSError:
        return {}
    return {str(int(each.name)): each for each in inside if (each / CONTRACT).is_file()}


def stamp_of(place: Path) -> Any:
    """What tells whether files changed."""
    try:
        found = [(each.name, each.stat()) for each in sorted(place.iterdir())]
    except OSError:
        return None
    return [(name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in found]


def opened(
    name: str, place: Path, backend: str, limits: Limits, act: Backend | None = None
) -> Shelf:
    """All versions of a policy. Raises ArtefactError where there is none, or one is not good."""
    shelf = Shelf(name, place, backend, limits, act)
    if not versions_in(place):
        raise ArtefactError(
            f"{place} is neither an exported policy, with its {CONTRACT} in it or in numbered "
            "directories, nor a run."
        )
    for version, served in shelf.changed():
        if not isinstance(served, Served):
            raise ArtefactError(served or f"{place} changed while it was read.")
        shelf.put(version, served)
    return shelf


def encoded(values: Any) -> bytes:
    """JSON in bytes, as short as it goes."""
    return json.dumps(values, separators=(",", ":")).encode()
