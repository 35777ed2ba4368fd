"""What an artefact says of itself, read from files that nobody has to trust.

contract.json holds the programs and all that is to be known of inputs, actions, environment and
origin, weights.npz the programs' constants. Nothing in them is evaluated, imported or unpickled.
"""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ArtefactError
from parl.deploy.program import Program, program_from_json
from parl.deploy.shapes import DTYPES, LARGEST, require, shape_of, text, whole

FORMAT, SCHEMA = "parl policy", 1
CONTRACT, WEIGHTS = "contract.json", "weights.npz"
LONGEST = 1 << 26  # bytes of a contract
HEADER = 512  # bytes, at most, that an array takes beside its numbers
DAMAGED = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)


class Leaf(NamedTuple):
    """How one array of what networks see is made of what the environment shows."""

    name: str  # obs, or obs. and its path
    source: tuple[Any, ...]  # keys from the whole observation inwards; ("info", key): of the info
    dtype: str  # that networks see
    shape: tuple[int, ...]  # that networks see, without the batch
    own_shape: tuple[int, ...]  # of the environment
    shift: Any = 0  # what choices start from, [*own_shape] or one number
    counts: Any = None  # how many choices there are, likewise; None: these are no choices
    scale: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """What `leaf_from_json` reads."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Stack(NamedTuple):
    """How an environment stacks its last frames."""

    frames: int
    axis: int  # of the environment's observation, from 0
    zero: bool  # whether an episode opens after black frames, else after copies of its first


class Member(NamedTuple):
    """How one of several agents sees and acts."""

    name: str
    parts: tuple[Leaf, ...]  # of its own observation, one after the other its view
    choices: int  # actions that it has; 0 where they are numbers
    informed: bool = False  # its mask is in its info


class Contract(NamedTuple):
    """An artefact, read and checked."""

    path: Path
    leaves: tuple[Leaf, ...]
    programs: dict[str, Program]  # greedy; sample and noise where it can sample
    start: dict[str, np.ndarray]  # memory at the start of an episode, of one environment, by name
    choices: tuple[int, ...]  # that the mask obs.legal is of, () without a mask
    agents: tuple[str, ...]  # () for one agent
    values: dict[str, Any]  # the whole contract, as JSON
    stack: Stack | None = None  # of what the environment shows
    members: tuple[Member, ...] = ()  # the agents, where their own observations can be given

    @property
    def files(self) -> dict[str, str]:
        """sha256 of the other files by their names."""
        return self.values["files"]


def digest(data: bytes) -> str:
    """The sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def sealed(values: dict[str, Any]) -> bytes:
    """The bytes of a contract that says its own hash."""
    body = {name: value for name, value in values.items() if name != "sha256"}
    return (json.dumps(body | {"sha256": hash_of(body)}, indent=1) + "\n").encode()


def hash_of(values: dict[str, Any]) -> str:
    """The hash of a contract's values."""
    return digest(json.dumps(values, sort_keys=True, separators=(",", ":")).encode())


def read_bytes(path: Path, limit: int) -> bytes:
    """A file's bytes. Raises ArtefactError where there is none, or it is too long."""
    try:
        if path.stat().st_size > limit:
            raise ArtefactError(f"{path} is {path.stat().st_size:,} bytes long, which is too much.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtefactError(f"{path} cannot be read: {reason}.") from error


def read(path: str | Path) -> Contract:
    """The artefact in a directory. Raises ArtefactError where it is not as it was written."""
    place = Path(path)
    if not (place / CONTRACT).is_file():
        raise ArtefactError(f"{place} holds no policy: there is no {CONTRACT} in it.")
    return of_bytes(
        place,
        read_bytes(place / CONTRACT, LONGEST),
        lambda: read_bytes(place / WEIGHTS, 2 * LARGEST * 8),
    )


def of_bytes(place: Path, data: bytes, weights: Callable[[], bytes]) -> Contract:
    """The artefact with these bytes of contract.json and of weights.npz. Raises ArtefactError."""
    file = place / CONTRACT
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{file} is no JSON: {error}.") from error
    try:
        require(values["format"] == FORMAT, f"its format is {values['format']!r:.40}")
        require(values["schema"] == SCHEMA, f"its schema is {values['schema']!r:.40}, not {SCHEMA}")
        body = {name: value for name, value in values.items() if name != "sha256"}
        require(values["sha256"] == hash_of(body), "it was changed since it was written")
    except (*DAMAGED, RecursionError) as error:
        raise ArtefactError(f"{file} is not a contract: {error}.") from error
    return checked(place, values, weights)


def checked(place: Path, values: dict[str, Any], weights: Callable[[], bytes]) -> Contract:
    """The artefact of these values. Raises ArtefactError."""
    try:
        declared = {text(each["name"]): each for each in values["weights"]}
        data = weights()
        if digest(data) != values["files"][WEIGHTS]:
            raise ArtefactError(f"{place / WEIGHTS} is damaged: its sha256 is another one.")
        constants = unpacked(data, declared)
        known = {"greedy", "sample", "noise"}
        programs = {
            name: program_from_json(each, constants) for name, each in values["programs"].items()
        }
        require("greedy" in programs and programs.keys() <= known, "its programs are others")
        leaves = tuple(map(leaf_from_json, values["observations"]))
        start = {text(each["name"]): start_of(each) for each in values["memory"]}
        choices = shape_of(values["choices"])
        agents = tuple(map(text, values["agents"]))
        stack = stack_of(values["preprocessing"], leaves)
        members = tuple(map(member_from_json, values.get("members", [])))
        require(not members or tuple(m.name for m in members) == agents, "its agents are others")
        more = values, stack, members
        contract = Contract(place, leaves, programs, start, choices, agents, *more)
        check_ports(contract)
    except ArtefactError:
        raise
    except (
        *DAMAGED,
        RecursionError,
        MemoryError,
        zipfile.BadZipFile,
        NotImplementedError,
    ) as error:
        reason = f"{type(error).__name__} {error}"
        raise ArtefactError(f"{place} does not hold a policy: {reason:.200}.") from error
    return contract


def leaf_from_json(values: Any) -> Leaf:
    """One array of the observations. Raises ValueError for what is none."""
    source = tuple(values["source"])
    require(all(isinstance(key, str | int) for key in source), "a source is no path of keys")
    shape, own_shape = shape_of(values["shape"]), shape_of(values["own_shape"])
    require(min((*shape, *own_shape), default=1) >= 0, "an observation has a negative size")
    require(math.prod(shape) == math.prod(own_shape) <= LARGEST, f"{own_shape} is not {shape}")
    require(values["dtype"] in DTYPES, f"{values['dtype']!r:.40} is no dtype")
    shift, counts = (
        None if values.get(name) is None else integers(values[name], own_shape)
        for name in ("shift", "counts")
    )
    scale = values.get("scale", 1.0)
    require(isinstance(scale, int | float) and math.isfinite(scale), "a scale is no number")
    name = text(values["name"])
    return Leaf(name, source, values["dtype"], shape, own_shape, shift, counts, float(scale))


def stack_of(steps: Any, leaves: tuple[Leaf, ...]) -> Stack | None:
    """The stack that ends the preprocessing. Raises ValueError where it does not fit."""
    last = steps[-1] if steps else {}
    if last.get("kind") != "stack" or len(leaves) != 1 or leaves[0].source:
        return None
    require(leaves[0].counts is None and leaves[0].shift == 0, "its stack is of choices")
    shape, frames, axis = leaves[0].own_shape, whole(last["frames"]), whole(last["axis"])
    require(-len(shape) <= axis < len(shape) and shape[axis] == frames, "its stack does not fit")
    return Stack(frames, axis % len(shape), last.get("padding") == "zero")


def member_from_json(values: Any) -> Member:
    """One of several agents. Raises ValueError for what is none."""
    choices = whole(values["choices"])
    require(0 <= choices <= LARGEST, f"an agent has {choices} actions")
    parts = tuple(map(leaf_from_json, values["parts"]))
    require(bool(parts), "an agent sees nothing")
    informed = values.get("informed", False)
    require(isinstance(informed, bool), "informed is neither true nor false")
    return Member(text(values["name"]), parts, choices, informed)


def integers(value: Any, shape: tuple[int, ...]) -> Any:
    """A number, or an array [*shape] of integers. Raises ValueError for anything else."""
    array = np.asarray(value)
    require(array.dtype.kind in "iu" and array.shape in ((), shape), "these are no integers")
    return array.astype(np.int64)


def start_of(values: Any) -> np.ndarray:
    """The start of a memory. Raises ValueError for what is none."""
    shape, dtype = shape_of(values["shape"]), text(values["dtype"])
    require(dtype in DTYPES, f"{dtype!r:.40} is no dtype")
    require(min(shape, default=1) >= 0 and math.prod(shape) <= LARGEST, "a memory has no size")
    start = np.asarray(values["start"])
    require(start.dtype.kind in "biuf", "the start of a memory is no number")
    return np.array(np.broadcast_to(start.astype(dtype), shape))


def check_ports(contract: Contract) -> None:
    """Raises ValueError where the programs need or give something else than is said."""
    start = {name: ((-1, *x.shape), x.dtype.name) for name, x in contract.start.items()}
    given = {leaf.name: ((-1, *leaf.shape), leaf.dtype) for leaf in contract.leaves} | start
    programs = contract.programs
    require(("noise" in programs) == ("sample" in programs), "noise and sample go together")
    noise = programs.get("noise")
    made = {name: noise.ports[x][1:] for name, x in noise.outputs.items()} if noise else {}
    for name, program in programs.items():
        known = {"key": ((2,), "uint32")} if name == "noise" else given | made
        for port in program.inputs:
            require(known.get(port.name) == port[1:], f"{port.name} of {name} is not as declared")
        if name == "noise":
            continue
        kept = {port.name for port in program.inputs} & start.keys()
        require(kept <= program.outputs.keys(), "a memory is not renewed")
        ports = program.ports
        for each in kept:
            require(ports[program.outputs[each]][1:] == start[each], f"{each} changes its shape")
        actions = [x for n, x in program.outputs.items() if n.startswith("env_action")]
        require("action" in program.outputs and bool(actions), "there is no action")
        batched = [ports[x].shape[:1] == (-1,) for x in (program.outputs["action"], *actions)]
        require(all(batched), "the action has no batch")
    total = sum(contract.choices)
    legal = [leaf.shape for leaf in contract.leaves if leaf.name == "obs.legal"]
    require(not total or (min(contract.choices) > 0 and legal == [(total,)]), "the mask is odd")


# --- weights ----------------------------------------------------------------------------------


def unpacked(data: bytes, declared: dict[str, Any]) -> dict[str, np.ndarray]:
    """The constants in an .npz file, as they are declared. Raises ValueError for other ones."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name, each in declared.items():
            form, axis = each.get("stored", ""), each.get("axis", -1)
            shape, dtype = shape_of(each["shape"]), text(each["dtype"])
            require(dtype in DTYPES and math.prod(shape) <= LARGEST, f"{name} has no size")
            require(min(shape, default=1) >= 0, f"{name} has a negative size")
            take = lambda member, *want: member_of(archive, member, *want)
            if form == "float16":
                x = take(name, shape, "float16")
            elif form in ("int8", "int4"):
                axis = whole(axis)
                require(len(shape) > 0 and 0 <= axis < len(shape), f"{name} has no axis {axis}")
                packed = (-(-math.prod(shape) // 2),) if form == "int4" else shape
                x = take(name, packed, "uint8" if form == "int4" else "int8")
                x = nibbles(x, shape) if form == "int4" else x
                wide = tuple(size if i == axis else 1 for i, size in enumerate(shape))
                x = x.astype(dtype) * take(f"{name}.scale", wide, dtype)
            else:
                require(form == "", f"{name} is stored as {form!r:.40}")
                x = take(name, shape, dtype)
            found[name] = x.astype(dtype)
    return found


def nibbles(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Integers -8 .. 7 of two in a byte."""
    pairs = np.stack([packed & 15, packed >> 4], -1).astype(np.int8).reshape(-1)
    return ((pairs ^ 8) - 8)[: math.prod(shape)].reshape(shape)


def member_of(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str
) -> np.ndarray:
    """An array of an archive. Raises ValueError where it is not of this shape and dtype."""
    info, size = archive.getinfo(f"{name}.npy"), math.prod(shape) * np.dtype(dtype).itemsize
    require(size < info.file_size <= size + HEADER, f"{name} has another size than declared")
    data = io.BytesIO(archive.read(info))
    version = np.lib.format.read_magic(data)
    require(version == (1, 0), f"{name} is not of .npy's version 1.0")
    found = np.lib.format.read_array_header_1_0(data)
    require(found == (shape, False, np.dtype(dtype)), f"{name} is not as declared")
    rest = data.read()
    require(len(rest) == size, f"{name} has another size than declared")
    return np.frombuffer(rest, dtype).reshape(shape)
