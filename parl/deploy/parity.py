"""Shows that the written forms of a policy act as `act` does in JAX: the report parity.json.

Compared are the actions, those of the environment and the memory, on observations of real episodes
and on adversarial ones. Numbers may differ by TOLERANCE of the largest that is around; choices must
be equal wherever the two best of them differ by more than that.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parl.deploy.arrays import Runner, sized
from parl.deploy.backends import Backend
from parl.deploy.names import ACTION
from parl.deploy.program import Program
from parl.deploy.rows import Rows, forgotten

if TYPE_CHECKING:  # it loads JAX
    from parl.deploy.compiler import EnvAction

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


def expected(act: Backend, rows: Rows, start: dict[str, np.ndarray]) -> Expected:
    """What `act` gives with the memory of its own that starts like `start`, of one environment."""
    width = rows.first.shape[1]
    opening = {name: np.repeat(x[None], width, 0) for name, x in start.items()}
    memory = {name: rows.memory[name] for name in start}
    steps, before = [], []
    for t in range(len(rows.first)):
        memory = forgotten(memory, opening, rows.first[t]) if t else memory
        before.append(memory)
        outputs = act({name: x[t] for name, x in rows.obs.items()} | memory, width)
        memory = {name: outputs[name] for name in memory}
        steps.append(outputs)
    return Expected(joined_steps(steps), joined_steps(before), rows.scale)


def joined_steps(steps: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays [T, B, ...] by name, of T times arrays [B, ...]."""
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}


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
        row = clear.reshape(*clear.shape[:2], -1).all(-1)  # [T, B]
        counted = np.broadcast_to(row.reshape(*row.shape, *[1] * (want.ndim - 2)), want.shape)
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
    name: str, act: Backend, traced: Program, rows: Rows, start: dict[str, np.ndarray]
) -> Case:
    """Rows with what `act` gives on them, and where the choices of the traced program are clear."""
    want = expected(act, rows, start)
    return Case(name, rows, want, decided(traced, rows, want))


def compare(
    form: str, backend: Backend, program: Program, start: dict[str, np.ndarray], cases: list[Case]
) -> dict[str, Any]:
    """How a form acts on all cases, for parity.json; `failures` are sentences."""
    report: dict[str, Any] = {}
    failures: list[str] = []
    own = {name: x for name, x in start.items() if name in program.outputs}
    for each in cases:
        found = expected(backend, each.rows, own).outputs
        chosen = {name: found[name] for name in program.outputs}
        summary, wrong = summarized(form, each.name, chosen, each)
        report[each.name] = summary
        failures += wrong
    return report | {"failures": failures}


def summarized(
    form: str, name: str, found: dict[str, np.ndarray], case: Case
) -> tuple[dict[str, Any], list[str]]:
    """(numbers of the differences, a sentence for each output that differs too much)."""
    differ = differences(found, case.want, case.clear)
    choices = [d for d in differ if case.want.outputs[d.output].dtype.kind != "f"]
    numbers = {
        "observations": int(np.prod(case.clear.shape[:2])),
        "max_error": max((d.error for d in differ), default=0.0),
        "unequal": sum(d.unequal for d in choices),
        "choices": sum(d.compared for d in choices),
    }
    return numbers, [d.sentence(form, name) for d in differ if not d.passes]


def parts_of(form: dict[str, Any]) -> list[dict[str, Any]]:
    """What a form's report says of each of its cases."""
    return [form[name] for name in ("recorded", "adversarial", "sampled") if name in form]


def map_failures(program: Program, maps: "dict[str, EnvAction]", form: str) -> list[str]:
    """What is wrong between a program's action and those of the environment, in sentences.

    Tried with actions far beyond all bounds, which no observation may lead to.
    """
    made = {o.output.name: o for o in program.operations}
    given = program.ports[program.outputs[ACTION]]
    port = given
    while port.name in made and made[port.name].kind == "reshape":
        port = program.ports[made[port.name].inputs[0]]
    outputs = {name: program.outputs[name] for name in maps}
    inputs = (*program.inputs, port)
    operations = tuple(o for o in program.operations if o.output.name != port.name)
    tail = Program(inputs, program.constants, operations, outputs).pruned()
    if any(each != port for each in tail.inputs):
        return [f"{form}: {', '.join(maps)} is not made of the action alone."]
    shape = (64, *given.shape[1:])
    rng = np.random.default_rng(0)
    sizes = np.array([0.3, 1.0, 3.0, 1e9])[np.arange(64) % 4].reshape(-1, *[1] * (len(shape) - 1))
    is_float = np.dtype(port.dtype).kind == "f"
    action = (sizes * rng.standard_normal(shape) if is_float else np.zeros(shape)).astype(
        port.dtype
    )
    found = Runner(tail)({port.name: action.reshape(sized(port.shape, 64))}, 64)
    wrong = [
        name
        for name, each in maps.items()
        if found[name].dtype != each(action).dtype
        or not np.allclose(found[name], each(action), rtol=TOLERANCE, atol=TOLERANCE)
    ]
    return [
        f"{form}: {name} is not what the environment is handed for an action." for name in wrong
    ]
