"""The form onnx: policy.onnx, of any batch, with the memory as inputs and outputs.

Needs the package onnx, whose full checker every file has to pass; opset 17.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parl.core.errors import MissingPackage
from parl.deploy.builder import UnsupportedOperation
from parl.deploy.program import Operation, Program
from parl.deploy.shapes import Port

OPSET, IR = 17, 8
FILE, SAMPLE = "policy.onnx", "policy.sample.onnx"
BATCH = "batch"

# operations that are one of ONNX without attributes
NODES = {
    "neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil",
    "round": "Round", "exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid",
    "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos", "erf": "Erf", "not": "Not", "add": "Add",
    "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "max": "Max", "min": "Min",
    "and": "And", "or": "Or", "xor": "Xor", "eq": "Equal", "lt": "Less", "le": "LessOrEqual",
    "gt": "Greater", "ge": "GreaterOrEqual", "select": "Where", "matmul": "MatMul",
}  # fmt: skip
REDUCED = {"prod": "ReduceProd", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}


def write(place: Path, file: str, program: Program, metadata: dict[str, str]) -> str:
    """Writes the form; its file's name. Raises MissingPackage, UnsupportedOperation."""
    (place / file).write_bytes(serialized(program, metadata))
    return file


def serialized(program: Program, metadata: dict[str, str]) -> bytes:
    """The bytes of an ONNX model of a program."""
    onnx = package()
    graph = Graph(onnx, program)
    model = onnx.helper.make_model(
        graph.made(),
        producer_name="parl",
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def package() -> Any:
    """The package onnx. Raises MissingPackage."""
    try:
        onnx = importlib.import_module("onnx")
        for name in ("checker", "helper", "numpy_helper"):
            importlib.import_module(f"onnx.{name}")
    except ImportError as error:
        raise MissingPackage(
            "the form onnx needs the package onnx: pip install 'parl-jax[onnx]'"
        ) from error
    return onnx


class Graph:
    """A graph under construction."""

    def __init__(self, onnx: Any, program: Program):
        self.onnx, self.program, self.ports = onnx, program, program.ports
        self.nodes: list[Any] = []
        self.tensors: dict[str, np.ndarray] = dict(program.constants)

    def made(self) -> Any:
        """The graph of all operations."""
        for operation in self.program.operations:
            self.lower(operation)
        names = {port.name for port in self.program.inputs} | self.tensors.keys()
        outputs = []
        for name, value in self.program.outputs.items():
            kept = name if name not in names else f"{name}.next"  # ONNX names a value once
            self.node("Identity", [value], kept)
            outputs.append(self.info(self.ports[value]._replace(name=kept)))
        used = {name for node in self.nodes for name in node.input}
        tensors = [
            self.onnx.numpy_helper.from_array(np.asarray(x, order="C"), name)
            for name, x in self.tensors.items()
            if name in used
        ]
        inputs = list(map(self.info, self.program.inputs))
        return self.onnx.helper.make_graph(self.nodes, "policy", inputs, outputs, tensors)

    def info(self, port: Port) -> Any:
        """The type of an input or output."""
        symbol = lambda size: BATCH if size == -1 else f"{-size}*{BATCH}"
        shape = [symbol(size) if size < 0 else size for size in port.shape]
        return self.onnx.helper.make_tensor_value_info(port.name, self.dtype(port.dtype), shape)

    def dtype(self, name: str) -> int:
        """ONNX' number of a dtype."""
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(name))

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node; the name of its output."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def tensor(self, value: Any, dtype: Any = np.int64) -> str:
        """A constant; its name."""
        array = np.asarray(value, dtype)
        key = f"{array.dtype.name}{list(array.shape)}:{array.tobytes().hex()[:120]}"
        self.tensors[key] = array
        return key

    def lower(self, operation: Operation) -> None:
        """The nodes of an operation. Raises UnsupportedOperation."""
        kind, inputs, output = operation.kind, list(operation.inputs), operation.output
        ports = [self.ports[name] for name in inputs]
        if kind in NODES:
            self.elementwise(kind, inputs, output, ports)
        elif kind in LOWERINGS:
            LOWERINGS[kind](self, inputs, output, operation.attributes)
        else:
            raise UnsupportedOperation(
                f"the form onnx has no operation '{kind}': use another form, such as numpy."
            )

    def elementwise(self, kind: str, inputs: list[str], output: Port, ports: list[Port]) -> None:
        """An elementwise operation; Where, Max and comparisons do not take every dtype."""
        if kind in ("and", "or", "xor", "not") and ports[0].dtype != "bool":
            raise UnsupportedOperation(
                f"the form onnx has no operation '{kind}' of {ports[0].dtype}: use another form."
            )
        self.node(NODES[kind], inputs, output.name)


Lowering = Callable[[Graph, list[str], Port, dict[str, Any]], Any]


def rsqrt(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """1 / sqrt(x)."""
    g.node("Reciprocal", [g.node("Sqrt", x, f"{out.name}.root")], out.name)


def shifted_log(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """log(1 + x)."""
    one = g.tensor(1, out.dtype)
    g.node("Log", [g.node("Add", [*x, one], f"{out.name}.sum")], out.name)


def shifted_exp(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """exp(x) - 1."""
    one = g.tensor(1, out.dtype)
    g.node("Sub", [g.node("Exp", x, f"{out.name}.exp"), one], out.name)


def not_equal(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """Whether two differ."""
    g.node("Not", [g.node("Equal", x, f"{out.name}.equal")], out.name)


def is_finite(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """Whether a number is neither NaN nor infinite."""
    nan, inf = g.node("IsNaN", x, f"{out.name}.nan"), g.node("IsInf", x, f"{out.name}.inf")
    g.node("Not", [g.node("Or", [nan, inf], f"{out.name}.odd")], out.name)


def remainder(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """The remainder with the sign of x."""
    g.node("Mod", x, out.name, fmod=1)


def converted(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """To another dtype."""
    g.node("Cast", x, out.name, to=g.dtype(how["dtype"]))


def reshaped(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """The shape's one negative size is what is left for it."""
    shape = [-1 if size < 0 else size for size in how["shape"]]
    g.node("Reshape", [*x, g.tensor(shape)], out.name)


def broadcast(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """Repeated along axes of size 1; the batch is read off an input."""
    shape = how["shape"]
    if min(shape, default=1) < 0:
        first = next(port for port in g.program.inputs if port.shape[:1] == (-1,))
        size = g.node("Shape", [first.name], f"{out.name}.batch", start=0, end=1)
        many = g.tensor([-n for n in shape if n < 0])
        size = g.node("Mul", [size, many], f"{out.name}.size")
        parts = [size if n < 0 else g.tensor([n]) for n in shape]
        wanted = g.node("Concat", parts, f"{out.name}.shape", axis=0)
    else:
        wanted = g.tensor(shape)
    g.node("Expand", [*x, wanted], out.name)


def sliced(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """Fewer numbers along an axis."""
    values = [g.tensor([how[name]]) for name in ("start", "limit", "axis", "step")]
    g.node("Slice", [*x, *values], out.name)


def padded(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """With a number around."""
    g.node("Pad", [x[0], g.tensor([*how["low"], *how["high"]]), x[1]], out.name)


def summed(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """Sums, which take their axes as an input."""
    g.node("ReduceSum", [*x, g.tensor(how["axes"])], out.name, keepdims=0)


def flags_reduced(kind: str) -> Lowering:
    """All or any of some flags, which ONNX reduces as numbers only."""

    def lower(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
        numbers = g.node("Cast", x, f"{out.name}.numbers", to=g.dtype("int32"))
        least = g.node(kind, [numbers], f"{out.name}.reduced", axes=how["axes"], keepdims=0)
        g.node("Cast", [least], out.name, to=g.dtype("bool"))

    return lower


def arg(kind: str) -> Lowering:
    """The place of the largest or smallest number along an axis."""

    def lower(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
        place = g.node(kind, x, f"{out.name}.place", axis=how["axis"], keepdims=0)
        g.node("Cast", [place], out.name, to=g.dtype("int32"))

    return lower


def convolved(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """A convolution, whose channels ONNX has in front."""
    image = g.node("Transpose", [x[0]], f"{out.name}.image", perm=[0, 3, 1, 2])
    if x[1] in g.tensors:
        kernel = f"{x[1]}.oihw"
        g.tensors[kernel] = np.ascontiguousarray(g.tensors[x[1]].transpose(3, 2, 0, 1))
    else:
        kernel = g.node("Transpose", [x[1]], f"{out.name}.kernel", perm=[3, 2, 0, 1])
    result = g.node(
        "Conv",
        [image, kernel],
        f"{out.name}.conv",
        strides=how["strides"],
        dilations=how["dilation"],
        pads=[*how["low"], *how["high"]],
        group=how["groups"],
    )
    g.node("Transpose", [result], out.name, perm=[0, 2, 3, 1])


def taken(g: Graph, x: list[str], out: Port, how: dict[str, Any]) -> None:
    """The entries at an index; beyond the ends the last ones."""
    size, axis = g.ports[x[0]].shape[how["axis"]], how["axis"]
    index = g.node("Cast", [x[1]], f"{out.name}.index", to=g.dtype("int64"))
    index = g.node("Clip", [index, g.tensor(0), g.tensor(size - 1)], f"{out.name}.inside")
    g.node("Gather", [x[0], index], out.name, axis=axis)


LOWERINGS: dict[str, Lowering] = {
    "rsqrt": rsqrt,
    "log1p": shifted_log,
    "expm1": shifted_exp,
    "ne": not_equal,
    "is_finite": is_finite,
    "rem": remainder,
    "convert": converted,
    "reshape": reshaped,
    "broadcast": broadcast,
    "transpose": lambda g, x, out, how: g.node("Transpose", x, out.name, perm=how["axes"]),
    "slice": sliced,
    "concatenate": lambda g, x, out, how: g.node("Concat", x, out.name, axis=how["axis"]),
    "pad": padded,
    "sum": summed,
    **{
        name: lambda g, x, out, how, kind=kind: g.node(
            kind, x, out.name, axes=how["axes"], keepdims=0
        )
        for name, kind in REDUCED.items()
    },
    "all": flags_reduced("ReduceMin"),
    "any": flags_reduced("ReduceMax"),
    "argmax": arg("ArgMax"),
    "argmin": arg("ArgMin"),
    "cumsum": lambda g, x, out, how: g.node("CumSum", [*x, g.tensor(how["axis"])], out.name),
    "conv": convolved,
    "take": taken,
}
