"""The written forms of a policy, ready to act: each reads its file, never the object behind it.

All take inputs [B, ...] by name and give outputs [B, ...] by name. A form that is code is only run
if it is, byte for byte, what is written for the contract beside it: an artefact is data.
"""

import ctypes
import importlib
import json
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from parl.core.errors import ArtefactError, MissingPackage
from parl.deploy.arrays import sized
from parl.deploy.contract import Contract
from parl.deploy.demo import page
from parl.deploy.export import c, js
from parl.deploy.export import onnx as onnx_form
from parl.deploy.names import ACTION, KEY
from parl.deploy.policy import Policy
from parl.deploy.program import Program
from parl.deploy.shapes import Port

if TYPE_CHECKING:  # it loads JAX
    from parl.deploy.compiler import Acting, EnvAction

Backend = Callable[[dict[str, Any], int], dict[str, Any]]
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-shared")


def numpy_backend(place: Path, program: str = "greedy") -> Backend:
    """contract.json and weights.npz, in NumPy."""
    return Policy.load(place).runners[program]


def onnx_backend(place: Path, program: str = "greedy") -> Backend:
    """policy.onnx in onnxruntime, on one thread."""
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingPackage(
            "running the form onnx needs onnxruntime: pip install 'parl-jax[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    file = onnx_form.FILE if program == "greedy" else onnx_form.SAMPLE
    session = onnxruntime.InferenceSession(
        (place / file).read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    inputs = [each.name for each in session.get_inputs()]
    outputs = [each.name for each in session.get_outputs()]
    plain = [name.removesuffix(".next") for name in outputs]

    def act(given: dict[str, Any], batch: int) -> dict[str, Any]:
        rows = {name: np.asarray(given[name]) for name in inputs}
        return dict(zip(plain, session.run(outputs, rows), strict=True))

    return act


def stablehlo_backend(place: Path, program: str = "greedy") -> Backend:
    """policy.stablehlo in JAX."""
    import jax

    from parl.deploy.export import stablehlo

    found = Policy.load(place).contract.programs[program]
    file = stablehlo.FILE if program == "greedy" else stablehlo.SAMPLE
    exported = jax.export.deserialize(bytearray((place / file).read_bytes()))
    call = jax.jit(exported.call)
    names = stablehlo.inputs_of(found)

    def act(given: dict[str, Any], batch: int) -> dict[str, Any]:
        results = call(*(given[name] for name in names))
        return dict(zip(found.outputs, map(np.asarray, results), strict=True))

    return act


def tflite_backend(place: Path, program: str = "greedy") -> Backend:
    """policy.tflite in LiteRT's interpreter."""
    try:
        interpreter = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise MissingPackage(
            "running the form tflite needs ai-edge-litert: pip install 'parl-jax[tflite]'"
        ) from error
    found = Policy.load(place).contract.programs[program]
    data = (place / FILES["tflite"]).read_bytes()
    run = interpreter.Interpreter(model_content=data).get_signature_runner()

    def act(row: dict[str, Any]) -> dict[str, Any]:
        made = run(**{port.name: row[port.name] for port in found.inputs})
        ports = {name: found.ports[value] for name, value in found.outputs.items()}
        return {name: made[name].astype(ports[name].dtype) for name in ports}

    return by_rows(found, act)


def jax_backend(
    whole: "Acting", maps: "dict[str, EnvAction]", program: Callable[..., Any] | None = None
) -> Backend:
    """`act` in JAX as a form: all that it gives, by name; `program` is that of `whole.call`."""
    import jax

    call, key = program or jax.jit(whole.call), np.array([0, 0], np.uint32)
    names = [*whole.obs, *whole.memory]

    def act(given: dict[str, Any], batch: int) -> dict[str, Any]:
        values = [given[name] for name in names]
        action, *memory = map(np.asarray, call(*values, given.get(KEY, key)))
        made = {ACTION: action} | {name: each(action) for name, each in maps.items()}
        return made | dict(zip(whole.memory, memory, strict=True))

    return act


def needing_less(act: Backend, whole: "Acting") -> Backend:
    """`act` for whoever gives only what the action needs: all else is that of an example."""
    examples = whole.obs | whole.memory

    def completed(given: dict[str, Any], batch: int) -> dict[str, Any]:
        lacking = {n: np.repeat(x, batch, 0) for n, x in examples.items() if n not in given}
        return act(given | lacking, batch)

    return completed


def by_rows(program: Program, act: Callable[[dict[str, Any]], dict[str, Any]]) -> Backend:
    """A batch as one row after the other, for forms that act on one."""
    ports = program.ports
    empty = {name: ports[value] for name, value in program.outputs.items()}

    def batched(given: dict[str, Any], batch: int) -> dict[str, Any]:
        made = {n: np.empty(sized(p.shape, batch), p.dtype) for n, p in empty.items()}
        for i in range(batch):
            row = {n: given[n][i : i + 1] if rows else given[n] for n, rows in needed.items()}
            for name, x in act(row).items():
                made[name][i : i + 1] = x
        return made

    needed = {port.name: port.shape[:1] == (-1,) for port in program.inputs}  # a key has no rows
    return batched


def unchanged(place: Path, file: str, source: str) -> None:
    """Raises ArtefactError where a file is not what is written for the contract."""
    if (place / file).read_text() != source:
        raise ArtefactError(
            f"{place / file} is not what this version writes for the contract beside it, so it is "
            "not run: export the policy again."
        )


def c_backend(place: Path, program: str = "greedy") -> Backend:
    """policy.h, compiled by the system's compiler with all warnings as errors."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise MissingPackage("running the form c needs a C compiler, such as gcc.")
    found = Policy.load(place).contract.programs
    unchanged(place, c.FILE, c.source(found))
    chosen = found[program]
    folder = tempfile.mkdtemp(prefix="parl-policy-")
    try:
        shutil.copy(place / c.FILE, folder)
        (Path(folder) / "policy.c").write_text(c.wrapper(program, chosen))
        command = [compiler, *FLAGS, "policy.c", "-o", "policy.so", "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise ArtefactError(f"{place / c.FILE} does not compile: {done.stderr.strip()[:300]}")
        library = ctypes.CDLL(str(Path(folder) / "policy.so"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    workspace = np.zeros(library.policy_workspace() // 8 + 1)
    outputs = [chosen.ports[value] for value in chosen.outputs.values()]

    def act(row: dict[str, Any]) -> dict[str, Any]:
        given = [np.ascontiguousarray(row[p.name], p.dtype) for p in chosen.inputs]
        made = [np.empty(sized(p.shape, 1), p.dtype) for p in outputs]
        pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (*given, *made, workspace)]
        library.act(*pointers)
        return dict(zip(chosen.outputs, made, strict=True))

    return by_rows(chosen, act)


LISTENER = """
import { createInterface } from "node:readline";
const { load } = await import(process.argv[1]);
const policy = load();
for await (const line of createInterface({ input: process.stdin })) {
  const { program, inputs } = JSON.parse(line);
  const made = policy.run(program, inputs);
  const plain = Object.entries(made).map(([name, x]) => [name, [...x]]);
  console.log(JSON.stringify(Object.fromEntries(plain)));
}
"""


def js_backend(place: Path, program: str = "greedy") -> Backend:
    """policy.mjs in node."""
    contract = Policy.load(place).contract
    unchanged(place, js.FILE, js.source(contract.programs, contract.start))
    return in_node(place / js.FILE, contract, program)


def web_backend(place: Path, program: str = "greedy") -> Backend:
    """The policy within index.html in node."""
    contract = Policy.load(place).contract
    unchanged(place, page.FILE, page.acting_page(contract))
    folder = tempfile.mkdtemp(prefix="parl-policy-")
    module = Path(folder) / js.FILE
    module.write_text(js.source(contract.programs, contract.start))  # as it stands in the page
    backend = in_node(module, contract, program)
    weakref.finalize(backend, shutil.rmtree, folder, True)
    return backend


def in_node(module: Path, contract: Contract, program: str) -> Backend:
    """A module in node, which is asked over its standard input."""
    node = shutil.which("node")
    if node is None:
        raise MissingPackage("running the forms js and web needs node.")
    chosen = contract.programs[program]
    child = subprocess.Popen(
        [node, "--input-type=module", "--eval", LISTENER, module.resolve().as_uri()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    ports = {name: chosen.ports[value] for name, value in chosen.outputs.items()}

    def act(row: dict[str, Any]) -> dict[str, Any]:
        assert child.stdin is not None and child.stdout is not None
        flat = {name: x.reshape(-1).tolist() for name, x in row.items()}
        child.stdin.write(json.dumps({"program": program, "inputs": flat}) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
        if not line:
            raise ArtefactError(f"{module} ended with exit code {child.wait()}.")
        made = json.loads(line)
        return {name: as_array(made[name], port) for name, port in ports.items()}

    backend = by_rows(chosen, act)
    weakref.finalize(backend, ended, child)
    return backend


def as_array(values: list[Any], port: Port) -> np.ndarray:
    """Numbers as JSON has them, where infinities and NaN are null."""
    numbers = [np.nan if x is None else x for x in values]
    return np.array(numbers).astype(port.dtype).reshape(sized(port.shape, 1))


def ended(child: subprocess.Popen) -> None:
    """Ends a child that waits for its next line."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    child.wait(timeout=10)


FILES = {
    "numpy": "policy.py",
    "onnx": onnx_form.FILE,
    "stablehlo": "policy.stablehlo",  # its own module loads JAX
    "c": c.FILE,
    "js": js.FILE,
    "web": page.FILE,
    "tflite": "policy.tflite",
}

BACKENDS: dict[str, Callable[..., Backend]] = {
    "numpy": numpy_backend,
    "onnx": onnx_backend,
    "stablehlo": stablehlo_backend,
    "c": c_backend,
    "js": js_backend,
    "web": web_backend,
    "tflite": tflite_backend,
}
