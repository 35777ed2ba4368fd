"""The form tflite: `act` for one observation as LiteRT's flat buffer, for phones and small devices.

It acts greedily. Inputs and outputs are those of the contract, by name.
"""

import importlib
from pathlib import Path
from typing import Any

import jax

from parl.core.errors import MissingPackage
from parl.deploy.builder import UnsupportedOperation
from parl.deploy.compiler import Acting, EnvAction
from parl.deploy.export.stablehlo import inputs_of, named
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
    call = jax.jit(named(whole, maps, inputs, outputs), keep_unused=True)
    return str(call.lower(*shapes).compiler_ir("stablehlo"))


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
