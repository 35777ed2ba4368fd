"""Shows that the written forms of a policy act as `act` does in JAX: the report parity.json.

Compared are the actions, those of the environment and the memory, on observations of real episodes
and on adversarial ones. Numbers may differ by TOLERANCE of the largest that is around; choices must
be equal wherever the two best of them differ by more than that.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from parl.deploy.arrays import Runner
from parl.deploy.backends import Backend
from parl.deploy.compiler import ACTION, Acting, EnvAction
from parl.deploy.observed import Rows, forgotten, start_of
from parl.deploy.program import Program

TOLERANCE = 1e-5
ILLEGAL = -1e8  # logits below are of illegal actions


class Expected(NamedTuple):
    """What JAX gives on rows, by the names of a form's outputs, [T, B, ...]."""

    outputs: dict[str, np.ndarray]
    memory: dict[str, np.ndarray]  # before each step
    scale: np.ndarray  # [B]


class Difference(NamedTuple):
    """The worst of what an output of a form is away from JAX'."""

    output: str
    error: float  # of numbers: by how much of the scale
    unequal: int  # of choices: how many
    compared: int
    where: tuple[int, ...]

    @property
    def passes(self) -> bool:
        return self.error <= TOLERANCE and not self.unequal

    def sentence(self, form: str, rows: str) -> str:
        """What differs, and where."""
        place = f"{self.output} differs from JAX on {rows} observation {list(self.where)}"
        if self.unequal:
            return f"{form}: {place}, and on {self.unequal} of {self.compared} in all."
        return f"{form}: {place} by {self.error:.2g} of its scale."


def expected(whole: Acting, maps: dict[str, EnvAction], rows: Rows) -> Expected:
    """What JAX gives, with the memory that it has then."""
    act, key = jax.jit(whole.call), np.array([0, 0], np.uint32)
    memory, start = rows.memory, start_of(whole, rows.first.shape[1])
    steps, before = [], []
    for t in range(len(rows.first)):
        memory = forgotten(memory, start, rows.first[t]) if t else memory
        before.append(memory)
        seen = (x[t] for x in rows.obs.values())
        action, *leaves = map(np.asarray, act(*seen, *memory.values(), key))
        memory = dict(zip(memory, leaves, strict=True))
        env = {name: each(action) for name, each in maps.items()}
        steps.append({ACTION: action} | env | memory)
    stacked = {name: np.stack([step[name] for step in steps]) for name in steps[0]}
    memories = {name: np.stack([each[name] for each in before]) for name in memory}
    return Expected(stacked, memories, rows.scale)


def given_by(form: Backend, program: Program, rows: Rows, start: dict[str, Any]) -> dict[str, Any]:
    """A form's outputs [T, B, ...] on rows, with the memory that it has of its own."""
    needed = {port.name for port in program.inputs}
    memory = {name: x for name, x in rows.memory.items() if name in needed}
    steps = []
    for t in range(len(rows.first)):
        memory = forgotten(memory, start, rows.first[t]) if t else memory
        seen = {name: x[t] for name, x in rows.obs.items() if name in needed}
        outputs = form(seen | memory, rows.first.shape[1])
        memory = {name: outputs[name] for name in memory}
        steps.append(outputs)
    return {name: np.stack([step[name] for step in steps]) for name in program.outputs}


def decided(program: Program, rows: Rows, want: Expected) -> np.ndarray:
    """Where the best choice is better than the next by more than rounding, as actions [T, B, ...].

    By the values that the program takes the largest of, on the memory that JAX has.
    """
    asked = {o.inputs[0]: o for o in program.operations if o.kind == "argmax"}
    runner = Runner(program._replace(outputs={name: name for name in asked}).pruned())
    action, found = want.outputs[ACTION], []
    for t in range(len(action)):
        inputs = {name: x[t] for name, x in (rows.obs | want.memory).items()}
        values = runner(inputs, action.shape[1])
        margins = [
            is_clear(values[name], asked[name].attributes["axis"], want.scale) for name in asked
        ]
        found.append(together(margins, action.shape[1:]))
    return np.stack(found)


def is_clear(values: np.ndarray, axis: int, scale: np.ndarray) -> np.ndarray:
    """Whether the two largest of values [B, ...] along an axis differ enough."""
    values = np.moveaxis(values, axis, -1)
    if values.shape[-1] < 2:
        return np.ones(values.shape[:-1], bool)
    ordered = np.sort(values, -1)
    largest = np.where(np.abs(values) < -ILLEGAL, np.abs(values), 0).max(-1)
    wide = scale.reshape(-1, *[1] * (largest.ndim - 1)) if len(largest) == len(scale) else 1
    return ordered[..., -1] - ordered[..., -2] > TOLERANCE * np.maximum(largest, wide)


def together(margins: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Margins of several choices as those of actions [B, ...]."""
    if not margins:
        return np.ones(shape, bool)
    if len(margins) == 1 and margins[0].size == np.prod(shape):
        return margins[0].reshape(shape)
    if (len(margins), *shape[:-1]) == (shape[-1], *margins[0].shape):
        return np.stack(margins, -1)
    rows = [m.reshape(shape[0], -1).all(-1) for m in margins if m.size % shape[0] == 0]
    row = np.logical_and.reduce(rows) if rows else np.ones(shape[0], bool)
    return np.broadcast_to(row.reshape(-1, *[1] * (len(shape) - 1)), shape)


def differences(found: dict[str, Any], want: Expected, clear: np.ndarray) -> list[Difference]:
    """How far each output of a form is from JAX'."""
    return [compared(name, x, want.outputs[name], clear, want.scale) for name, x in found.items()]


def compared(
    name: str, found: np.ndarray, want: np.ndarray, clear: np.ndarray, scale: np.ndarray
) -> Difference:
    """How far one output [T, B, ...] is."""
    if found.shape != want.shape or found.dtype.kind != want.dtype.kind:
        return Difference(name, np.inf, want.size, want.size, ())
    if want.dtype.kind == "f":
        wide = scale.reshape(1, -1, *[1] * (want.ndim - 2))
        with np.errstate(invalid="ignore"):
            error = np.abs(found - want) / np.maximum(np.abs(want), wide)
        error = np.where(np.isfinite(found), error, np.inf)
        worst = np.unravel_index(error.argmax(), error.shape) if error.size else ()
        return Difference(name, float(error.max(initial=0)), 0, error.size, tuple(map(int, worst)))
    counted = np.ones(want.shape, bool)
    if clear.size == want.size:
        counted = clear.reshape(want.shape)
    elif name.startswith("env_action."):  # of one agent
        counted = np.broadcast_to(clear.reshape(*clear.shape[:2], -1).all(-1), want.shape[:2])
    wrong = (found != want) & counted
    first = tuple(map(int, np.argwhere(wrong)[0])) if wrong.any() else ()
    return Difference(name, 0.0, int(wrong.sum()), int(counted.sum()), first)


class Case(NamedTuple):
    """Rows, what JAX gives on them, and where its choices are clear."""

    name: str  # recorded or adversarial
    rows: Rows
    want: Expected
    clear: np.ndarray


def case(
    name: str, whole: Acting, maps: dict[str, EnvAction], program: Program, rows: Rows
) -> Case:
    """Rows with what JAX gives on them."""
    want = expected(whole, maps, rows)
    return Case(name, rows, want, decided(program, rows, want))


def compare(
    form: str, backend: Backend, program: Program, whole: Acting, cases: list[Case]
) -> dict[str, Any]:
    """How a form acts on all cases, for parity.json; `failures` are sentences."""
    report: dict[str, Any] = {}
    failures: list[str] = []
    for each in cases:
        start = start_of(whole, each.rows.first.shape[1])
        found = given_by(backend, program, each.rows, start)
        differ = differences(found, each.want, each.clear)
        choices = [d for d in differ if each.want.outputs[d.output].dtype.kind != "f"]
        report[each.name] = {
            "observations": int(each.rows.first.size),
            "max_error": max((d.error for d in differ), default=0.0),
            "unequal": sum(d.unequal for d in choices),
            "choices": sum(d.compared for d in choices),
        }
        failures += [d.sentence(form, each.name) for d in differ if not d.passes]
    return report | {"failures": failures}


def parts_of(form: dict[str, Any]) -> list[dict[str, Any]]:
    """What a form's report says of each of its cases."""
    return [form[name] for name in ("recorded", "adversarial") if name in form]


def map_failures(program: Program, maps: dict[str, EnvAction], form: str) -> list[str]:
    """What is wrong between a program's action and those of the environment, in sentences.

    Tried with actions far beyond all bounds, which no observation may lead to.
    """
    port = program.ports[program.outputs[ACTION]]
    outputs = {name: program.outputs[name] for name in maps}
    inputs = (*program.inputs, port)
    operations = tuple(o for o in program.operations if o.output.name != port.name)
    tail = Program(inputs, program.constants, operations, outputs).pruned()
    if any(each != port for each in tail.inputs):
        return [f"{form}: {', '.join(maps)} is not made of the action alone."]
    shape = (64, *port.shape[1:])
    rng = np.random.default_rng(0)
    sizes = np.array([0.3, 1.0, 3.0, 1e9])[np.arange(64) % 4].reshape(-1, *[1] * (len(shape) - 1))
    action = (sizes * rng.standard_normal(shape)).astype(port.dtype)
    if np.dtype(port.dtype).kind in "iu":
        action = np.zeros(shape, port.dtype)
    found = Runner(tail)({port.name: action}, 64)
    wrong = [
        name
        for name, each in maps.items()
        if found[name].dtype != each(action).dtype
        or not np.allclose(found[name], each(action), rtol=TOLERANCE, atol=TOLERANCE)
    ]
    return [
        f"{form}: {name} is not what the environment is handed for an action." for name in wrong
    ]
