"""Builds a Program one operation at a time, and simpler than it was asked for.

What follows from constants alone is computed, what is there already is not made again, and
reshapes sink below elementwise operations, where most of them meet their inverse.
"""

import json
from typing import Any

import numpy as np

from parl.core.errors import ParlError
from parl.deploy.arrays import function_of
from parl.deploy.program import Operation, Program, port_of
from parl.deploy.shapes import BINARY, COMPARISONS, UNARY, Port, Shape, infer, joined

ELEMENTWISE = {*UNARY, *BINARY, *COMPARISONS, "not", "is_finite", "select", "convert"}
UNKNOWN = "?"  # begins the kind of an operation that programs do not have
FOLDED = 1 << 24  # numbers of a constant that is computed


class UnsupportedOperation(ParlError):
    """A policy has an operation that a form of it has not."""


class Builder:
    """A program under construction; values are known by their names."""

    def __init__(self) -> None:
        self.ports: dict[str, Port] = {}
        self.inputs: list[Port] = []
        self.constants: dict[str, np.ndarray] = {}
        self.operations: dict[str, Operation] = {}  # by the names of their results
        self.made: dict[Any, str] = {}  # what there is already
        self.uniform: dict[str, np.ndarray] = {}  # values of equal numbers, as one of them []

    def input(self, name: str, shape: Shape, dtype: str) -> str:
        """A value that the program is given."""
        self.ports[name] = Port(name, shape, dtype)
        self.inputs.append(self.ports[name])
        return name

    def constant(self, array: Any) -> str:
        """A value that is known."""
        array = np.asarray(array, order="C")
        key = array.dtype.name, array.shape, array.tobytes()
        if key not in self.made:
            name = self.made[key] = f"w{len(self.constants)}"
            self.constants[name], self.ports[name] = array, port_of(name, array)
            if array.size == 1:
                self.uniform[name] = array.reshape(())
        return self.made[key]

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """An operation; the name of its result. Raises ValueError where it cannot be made."""
        attributes = {n: plain(x) for n, x in attributes.items()}
        shape, dtype = infer(kind, [self.ports[name] for name in inputs], attributes)
        simpler = self.simpler(kind, inputs, attributes, shape)
        if simpler is not None:
            return simpler
        key = kind, inputs, json.dumps(attributes, sort_keys=True)
        if key not in self.made:
            name = self.made[key] = f"t{len(self.operations)}"
            self.ports[name] = Port(name, shape, dtype)
            self.operations[name] = Operation(kind, inputs, attributes, self.ports[name])
            if kind == "broadcast" and inputs[0] in self.uniform:
                self.uniform[name] = self.uniform[inputs[0]]
        return self.made[key]

    def unknown(self, kind: str, shape: Shape, dtype: str) -> str:
        """The result of an operation that programs do not have: an error only if it is needed."""
        name = f"t{len(self.operations)}"
        self.ports[name] = Port(name, shape, dtype)
        self.operations[name] = Operation(UNKNOWN + kind, (), {}, self.ports[name])
        return name

    def is_unknown(self, name: str) -> bool:
        """Whether a value comes of an operation that programs do not have."""
        operation = self.operations.get(name)
        return operation is not None and operation.kind.startswith(UNKNOWN)

    def program(self, outputs: dict[str, str]) -> Program:
        """What these outputs need. Raises UnsupportedOperation."""
        operations = tuple(self.operations.values())
        program = Program(tuple(self.inputs), self.constants, operations, outputs).pruned()
        check_known(program)
        return program

    # --- simpler ways -------------------------------------------------------------------------

    def simpler(self, kind: str, inputs: Any, attributes: Any, shape: Shape) -> str | None:
        """A value that is the same and costs less, if there is one."""
        known = all(name in self.constants for name in inputs)
        if known and min(shape, default=1) >= 0 and np.prod(shape) <= FOLDED:
            return self.folded(kind, inputs, attributes)
        if kind in ("reshape", "broadcast", "transpose"):
            return self.moved(kind, inputs[0], attributes, shape)
        if kind == "convert" and self.ports[inputs[0]].dtype == attributes["dtype"]:
            return inputs[0]
        if kind == "select" and inputs[0] in self.uniform:
            chosen = inputs[1] if self.uniform[inputs[0]] else inputs[2]
            return self.add("broadcast", chosen, shape=shape)
        if kind in ELEMENTWISE:
            return self.elementwise(kind, inputs, attributes, shape)
        return None

    def folded(self, kind: str, inputs: Any, attributes: Any) -> str:
        """The constant that an operation on constants gives."""
        operation = Operation(kind, inputs, attributes, Port("", (), ""))
        function, batched = function_of(operation)
        with np.errstate(all="ignore"):
            values = [self.constants[name] for name in inputs]
            return self.constant(function(*values, *([1] if batched else [])))

    def moved(self, kind: str, x: str, attributes: Any, shape: Shape) -> str | None:
        """A value in another shape, where that takes nothing or less."""
        same = shape == self.ports[x].shape
        if same and (kind != "transpose" or attributes["axes"] == sorted(attributes["axes"])):
            return x
        if x in self.uniform and (kind != "broadcast" or x not in self.constants):
            return self.add("broadcast", self.constant(self.uniform[x]), shape=shape)
        before = self.operations.get(x)
        if kind == "reshape" and before is not None and before.kind == "reshape":
            return self.add("reshape", before.inputs[0], shape=shape)
        if kind == "transpose" and squeezed(shape) == squeezed(self.ports[x].shape):
            axes = [a for a in attributes["axes"] if self.ports[x].shape[a] != 1]
            if axes == sorted(axes):  # only axes of size 1 have moved
                return self.add("reshape", x, shape=shape)
        return None

    def elementwise(self, kind: str, inputs: Any, attributes: Any, shape: Shape) -> str | None:
        """The same of smaller operands, or of operands before they were reshaped."""
        if all(name in self.uniform for name in inputs):
            small = [self.constant(self.uniform[name]) for name in inputs]
            return self.add("broadcast", self.add(kind, *small, **attributes), shape=shape)
        small = [self.narrow(name) for name in inputs]
        for i in range(len(inputs)):  # one at a time: together they must still have the shape
            tried = [*inputs[:i], small[i], *inputs[i + 1 :]]
            if small[i] != inputs[i] and joined(*(self.ports[x].shape for x in tried)) == shape:
                return self.add(kind, *tried, **attributes)
        before = [self.operations.get(name) for name in inputs]
        inner = {self.ports[o.inputs[0]].shape for o in before if o and o.kind == "reshape"}
        if len(inner) != 1:
            return None
        (old,) = inner
        operands = [self.before_reshape(name, old, shape) for name in inputs]
        if None in operands:
            return None
        return self.add("reshape", self.add(kind, *operands, **attributes), shape=shape)

    def narrow(self, name: str) -> str:
        """What was broadcast to a value, if it was."""
        before = self.operations.get(name)
        return before.inputs[0] if before and before.kind == "broadcast" else name

    def before_reshape(self, name: str, old: Shape, new: Shape) -> Any:
        """An operand for values of the shape `old` that were to be reshaped to `new`, or None."""
        before, port = self.operations.get(name), self.ports[name]
        if before and before.kind == "reshape" and port.shape == new:
            return before.inputs[0]
        if name in self.uniform:
            return self.constant(self.uniform[name])
        last = port.shape[-1:]
        if name in self.constants and last == (self.constants[name].size,) == old[-1:] == new[-1:]:
            return self.constant(self.constants[name].reshape(last))
        return None


def plain(value: Any) -> Any:
    """An attribute as JSON has it: lists, and Python's integers in place of NumPy's."""
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return int(value) if isinstance(value, np.integer) else value


def squeezed(shape: Shape) -> Shape:
    """A shape without axes of size 1."""
    return tuple(size for size in shape if size != 1)


def check_known(program: Program) -> None:
    """Raises UnsupportedOperation for an operation that programs do not have."""
    for operation in program.operations:
        if operation.kind.startswith(UNKNOWN):
            raise UnsupportedOperation(
                f"this policy needs the operation '{operation.kind[1:]}', which exported policies "
                "do not have: build the model without it."
            )
