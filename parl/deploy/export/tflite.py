"""The form tflite: `act` for one observation as LiteRT's flat buffer, for phones and small devices.

It acts greedily. Inputs and outputs are those of the contract, by name.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jax_core

from parl.core.errors import MissingPackage
from parl.deploy.avals import opened
from parl.deploy.builder import UnsupportedOperation
from parl.deploy.compiler import Acting, EnvAction
from parl.deploy.export.stablehlo import inputs_of, named
from parl.deploy.lowerings import INLINED, LONGEST
from parl.deploy.program import Program

FILE, SIGNATURE = "policy.tflite", "serving_default"


def write(place: Path, whole: Acting, maps: dict[str, EnvAction], program: Program) -> str:
    """Writes the form; its file's name. Raises UnsupportedOperation, MissingPackage."""
    inputs, outputs = inputs_of(program), list(program.outputs)
    (place / FILE).write_bytes(converted(lowered(whole, maps, inputs, outputs), inputs, outputs))
    return FILE


def lowered(
    whole: Acting, maps: dict[str, EnvAction], inputs: list[str], outputs: list[str]
) -> str:
    """`act` for one observation as StableHLO's text."""
    examples = whole.obs | whole.memory
    shapes = [jax.ShapeDtypeStruct((1, *examples[n].shape[1:]), examples[n].dtype) for n in inputs]
    closed = jax.make_jaxpr(named(whole, maps, inputs, outputs))(*shapes)
    call = jax.jit(lambda *given: unrolled(closed.jaxpr, closed.consts, given), keep_unused=True)
    return str(call.lower(*shapes).compiler_ir("stablehlo"))


def unrolled(jaxpr: Any, consts: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """The results of a jaxpr, calls inlined and loops one step after the other.

    The converter cannot write the loop of a recurrent network, which has one step.
    """
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *given], strict=True))
    read = lambda atom: atom.val if isinstance(atom, jax_core.Literal) else values[atom]
    for equation in jaxpr.eqns:
        arguments, kind = list(map(read, equation.invars)), equation.primitive.name
        if kind == "scan":
            results = loop(equation.params, arguments)
        elif kind in INLINED:
            results = unrolled(*opened(equation.params[INLINED[kind]]), arguments)
        else:
            made = equation.primitive.bind(*arguments, **equation.params)
            results = made if equation.primitive.multiple_results else [made]
        values |= dict(zip(equation.outvars, results, strict=True))
    return list(map(read, jaxpr.outvars))


def loop(how: dict[str, Any], arguments: list[Any]) -> list[Any]:
    """The results of a scan. Raises UnsupportedOperation for more than LONGEST steps."""
    if how["length"] > LONGEST:
        raise UnsupportedOperation(f"a loop of {how['length']} steps is too long for tflite.")
    first, count = how["num_consts"], how["num_carry"]
    consts, carry = arguments[:first], arguments[first : first + count]
    columns = arguments[first + count :]
    steps, rows = range(how["length"]), {}
    for i in reversed(steps) if how["reverse"] else steps:
        given = [*consts, *carry, *(x[i] for x in columns)]
        results = unrolled(*opened(how["jaxpr"]), given)
        carry, rows[i] = results[:count], results[count:]
    return [*carry, *(jnp.stack(each) for each in zip(*map(rows.get, steps), strict=True))]


def converted(text: str, inputs: list[str], outputs: list[str]) -> bytes:
    """The flat buffer of a program in StableHLO. Raises UnsupportedOperation, MissingPackage."""
    try:
        converter: Any = importlib.import_module("litert_converter.converter_api_ext")
        ir: Any = importlib.import_module("litert_converter.mlir.ir")
        passes: Any = importlib.import_module("litert_converter.mlir.passmanager")
    except ImportError as error:
        raise MissingPackage(
            "the form tflite needs litert-converter: pip install 'parl-jax[tflite]'"
        ) from error
    try:
        with ir.Context() as context, ir.Location.unknown():
            converter.prepare_mlir_context(context)
            module = ir.Module.parse(text)
            converter.set_signature(module.operation, SIGNATURE, inputs, outputs)
            settings = converter.ConvertToTFLConfig()
            converter.run_convert_to_tfl_passes(module, passes.PassManager(), settings)
            return converter.export_flatbuffer_to_bytes(module.operation)
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        raise UnsupportedOperation(
            f"this policy is not converted by LiteRT: {type(error).__name__}: {line[:200]}"
        ) from error
