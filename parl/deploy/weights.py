"""The constants of several programs under common names, and smaller ways to store them."""

import io
from typing import Any

import numpy as np

from parl.core.errors import ConfigError
from parl.deploy.program import Operation, Program

FORMS = ("float32", "float16", "int8", "int4")
LEAST = 64  # numbers of a constant from which on it is stored in fewer bits


def with_common_names(programs: dict[str, Program]) -> dict[str, Program]:
    """The programs with constants that are equal under one name."""
    names: dict[Any, str] = {}
    return {key: renamed(program, names) for key, program in programs.items()}


def renamed(program: Program, names: dict[Any, str]) -> Program:
    """The program with the constants' names that `names` has for them, or gets."""
    own, constants = {}, {}
    for name, x in program.constants.items():
        key = x.dtype.name, x.shape, x.tobytes()
        own[name] = names.setdefault(key, f"w{len(names)}")
        constants[own[name]] = x
    of = lambda name: own.get(name, name)
    operations = tuple(
        Operation(o.kind, tuple(map(of, o.inputs)), o.attributes, o.output)
        for o in program.operations
    )
    outputs = {name: of(value) for name, value in program.outputs.items()}
    return Program(program.inputs, constants, operations, outputs)


def check_form(form: Any) -> str:
    """The name of a form of weights. Raises ConfigError for others."""
    if form not in FORMS:
        raise ConfigError(f"weights are {', '.join(FORMS)}, not {form!r}.")
    return form


def packed(constants: dict[str, np.ndarray], form: str) -> tuple[list[dict[str, Any]], bytes]:
    """(what a contract says of the constants, the bytes of their .npz file)."""
    arrays: dict[str, np.ndarray] = {}
    declared = []
    for name, x in constants.items():
        each: dict[str, Any] = {"name": name, "shape": list(x.shape), "dtype": x.dtype.name}
        if form == "float32" or x.dtype != np.float32 or x.size < LEAST or x.ndim < 2:
            arrays[name] = x
        elif form == "float16" and np.abs(x).max() < np.finfo(np.float16).max:
            arrays[name], each = x.astype(np.float16), each | {"stored": "float16"}
        elif form == "float16":
            arrays[name] = x
        else:
            axis = x.ndim - 1  # a scale for each unit that a layer makes
            integers, scale = quantized(x, axis, 127 if form == "int8" else 7)
            arrays[name] = integers if form == "int8" else in_nibbles(integers)
            arrays[f"{name}.scale"] = scale
            each |= {"stored": form, "axis": axis}
        declared.append(each)
    file = io.BytesIO()
    save = np.savez if form == "float32" else np.savez_compressed  # floats gain next to nothing
    save(file, allow_pickle=False, **arrays)
    return declared, file.getvalue()


def num_bytes(data: bytes) -> int:
    """Bytes of the arrays in an .npz file, without what they lie in."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return sum(archive[name].nbytes for name in archive.files)


def quantized(x: np.ndarray, axis: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(integers -most .. most as int8 [*shape], their scales): one for each index of an axis."""
    others = tuple(i for i in range(x.ndim) if i != axis)
    scale = np.abs(x).max(others, keepdims=True) / most
    scale = np.where(scale > 0, scale, 1).astype(x.dtype)
    return np.rint(x / scale).astype(np.int8), scale


def in_nibbles(integers: np.ndarray) -> np.ndarray:
    """Integers -8 .. 7 as two in a byte [ceil(n / 2)]."""
    flat = integers.reshape(-1)
    flat = np.append(flat, np.zeros(flat.size % 2, np.int8)) & 15
    return (flat[::2] | (flat[1::2] << 4)).astype(np.uint8)
