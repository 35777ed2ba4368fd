"""Some of the compared observations, kept in the artefact so that they can be compared again."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from parl.core.errors import ArtefactError
from parl.deploy.names import ACTION
from parl.deploy.parity import Case, Expected
from parl.deploy.program import Program
from parl.deploy.rows import Rows

FILE = "samples.npz"
COUNT, LEAST = 256, 16
LARGEST = 1 << 22  # bytes of the observations
LIMIT = 1 << 26  # bytes of a file that is read


def kept(cases: list[Case], program: Program) -> dict[str, np.ndarray]:
    """Rows of all cases, of single steps with the memory before them: what samples.npz holds."""
    parts = [rows_of(case, program) for case in cases]
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    total = len(merged["scale"])
    size = sum(x[:1].nbytes for name, x in merged.items() if name.startswith("in."))
    count = int(np.clip(LARGEST // max(size, 1), LEAST, min(COUNT, total)))
    chosen = np.unique(np.linspace(0, total - 1, count).astype(int))
    return {name: x[chosen] for name, x in merged.items()}


def rows_of(case: Case, program: Program) -> dict[str, np.ndarray]:
    """The steps of a case, one after the other."""
    needed = {port.name for port in program.inputs}
    flat = lambda x: x.reshape(-1, *x.shape[2:])
    given = {n: x for n, x in (case.rows.obs | case.want.memory).items() if n in needed}
    steps = len(case.clear)
    rows = {f"in.{name}": flat(x) for name, x in given.items()}
    rows |= {f"out.{name}": flat(case.want.outputs[name]) for name in program.outputs}
    return rows | {"clear": flat(case.clear), "scale": np.tile(case.rows.scale, steps)}


def write(place: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes samples.npz."""
    np.savez(place / FILE, allow_pickle=False, **arrays)


def read(place: Path, program: Program) -> Case:
    """The rows of samples.npz. Raises ArtefactError where they are none of the program."""
    try:
        data = (place / FILE).read_bytes()
        if len(data) > LIMIT:
            raise ValueError("it is too long")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        count = len(arrays["scale"])
        if not count or any(len(x) != count for x in arrays.values()):
            raise ValueError("its arrays have different lengths")
        obs = {p.name: fitted(arrays[f"in.{p.name}"], p.shape, p.dtype) for p in program.inputs}
        ports = program.ports
        outputs = {n: ports[value] for n, value in program.outputs.items()}
        want = {n: fitted(arrays[f"out.{n}"], p.shape, None) for n, p in outputs.items()}
        clear = fitted(arrays["clear"], outputs[ACTION].shape, "bool")
        scale = fitted(arrays["scale"], (-1,), "float64")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        MemoryError,
        OverflowError,
        EOFError,
    ) as error:
        raise ArtefactError(f"{place / FILE} holds no samples: {error}.") from error
    except Exception as error:  # of zipfile, which is not to be told apart
        raise ArtefactError(f"{place / FILE} is damaged: {type(error).__name__}.") from error
    memory = {name: obs[name] for name in program.outputs if name.startswith("memory.")}
    rows = Rows({n: x[None] for n, x in obs.items()}, np.zeros((1, count), bool), memory, scale)
    wide = {name: x[None] for name, x in want.items()}
    return Case("sample", rows, Expected(wide, {}, scale), clear[None])


def fitted(x: np.ndarray, shape: Any, dtype: str | None) -> np.ndarray:
    """The array [N, ...]. Raises ValueError where it is not of this shape and dtype."""
    if x.shape[1:] != tuple(shape[1:]) or (dtype is not None and x.dtype != dtype):
        raise ValueError(f"{x.dtype}{x.shape} is not {dtype}{shape}")
    return x
