"""A policy as a list of plain array operations, and how it is read again."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ArtefactError
from parl.deploy.shapes import DTYPES, Port, check_size, infer, require, shape_of, text


class Operation(NamedTuple):
    """One array operation and its only result."""

    kind: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]
    output: Port


class Program(NamedTuple):
    """Operations in an order in which they can be run. Values are known by their names."""

    inputs: tuple[Port, ...]
    constants: dict[str, np.ndarray]
    operations: tuple[Operation, ...]
    outputs: dict[str, str]  # names of outputs to names of values

    @property
    def ports(self) -> dict[str, Port]:
        """All values by their names."""
        constants = [port_of(name, x) for name, x in self.constants.items()]
        return {p.name: p for p in (*self.inputs, *constants, *(o.output for o in self.operations))}

    def pruned(self, outputs: Iterable[str] | None = None) -> "Program":
        """What some outputs need; all inputs that none of them needs are gone, too."""
        kept = {name: self.outputs[name] for name in (self.outputs if outputs is None else outputs)}
        needed, operations = set(kept.values()), []
        for operation in reversed(self.operations):
            if operation.output.name in needed:
                operations.append(operation)
                needed |= set(operation.inputs)
        constants = {name: x for name, x in self.constants.items() if name in needed}
        inputs = tuple(port for port in self.inputs if port.name in needed)
        return Program(inputs, constants, tuple(reversed(operations)), kept)

    def to_json(self) -> dict[str, Any]:
        """What `program_from_json` reads; the constants' numbers apart."""
        return {
            "inputs": [port_to_json(port) for port in self.inputs],
            "constants": [port_to_json(port_of(*item)) for item in self.constants.items()],
            "operations": [
                {"kind": o.kind, "inputs": list(o.inputs), "output": o.output.name}
                | ({"attributes": o.attributes} if o.attributes else {})
                for o in self.operations
            ],
            "outputs": self.outputs,
        }


def port_of(name: str, array: np.ndarray) -> Port:
    """The port of an array."""
    return Port(name, array.shape, array.dtype.name)


def port_to_json(port: Port) -> dict[str, Any]:
    """What `port_from_json` reads."""
    return {"name": port.name, "shape": list(port.shape), "dtype": port.dtype}


# --- reading ----------------------------------------------------------------------------------


def program_from_json(values: Any, constants: dict[str, np.ndarray]) -> Program:
    """The program that `Program.to_json` wrote, with every shape checked.

    Raises ArtefactError for anything else.
    """
    try:
        inputs = tuple(map(port_from_json, values["inputs"]))
        named = [port_from_json(each) for each in values["constants"]]
        own = {port.name: constants[port.name] for port in named}
        for port in named:
            require(port == port_of(port.name, own[port.name]), f"{port.name} is not as declared")
        known = {port.name: port for port in (*inputs, *named)}
        require(len(known) == len(inputs) + len(named), "two values have one name")
        operations = []
        for each in values["operations"]:
            operation = operation_from_json(each, known)
            known[operation.output.name] = operation.output
            operations.append(operation)
        outputs = {text(name): text(value) for name, value in values["outputs"].items()}
        require(all(value in known for value in outputs.values()), "an output does not exist")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArtefactError(
            f"the contract does not describe a policy: {type(error).__name__} {error}."
        ) from error
    return Program(inputs, own, tuple(operations), outputs)


def port_from_json(values: Any) -> Port:
    """A port. Raises ValueError for what is none."""
    shape, dtype = shape_of(values["shape"]), text(values["dtype"])
    require(dtype in DTYPES, f"{dtype!r} is no dtype of policies")
    return Port(text(values["name"]), check_size(shape), dtype)


def operation_from_json(values: Any, known: dict[str, Port]) -> Operation:
    """An operation on known values. Raises ValueError for what is none."""
    kind, output = text(values["kind"]), text(values["output"])
    inputs = tuple(map(text, values["inputs"]))
    require(output not in known, f"{output!r} is given twice")
    attributes = values.get("attributes", {})
    ports = [known[name] for name in inputs]
    shape, dtype = infer(kind, ports, attributes)
    return Operation(kind, inputs, attributes, Port(output, shape, dtype))
