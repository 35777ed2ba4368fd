"""The operations of a program in NumPy, and a program made ready to run."""

from collections.abc import Callable
from typing import Any

import numpy as np

from parl.deploy import threefry
from parl.deploy.program import Operation, Program
from parl.deploy.shapes import Shape

Function = Callable[..., Any]


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def polynomial(x: np.ndarray, coefficients: Any) -> np.ndarray:
    """The polynomial with these coefficients, the highest first, in the dtype of x."""
    result = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * x + x.dtype.type(coefficient)
    return result


# error function of float32: x P(x^2) / Q(x^2) within 4
ERF_ABOVE = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
ERF_BELOW = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
    -1.42647390514189e-02,
)  # fmt: skip


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, to the accuracy of float32."""
    x = np.clip(x, -4, 4)
    square = x * x
    return x * polynomial(square, ERF_ABOVE) / polynomial(square, ERF_BELOW)


# Giles 2010, "Approximating the erfinv function", single precision
ERFINV_NEAR = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
ERFINV_FAR = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


def erfinv(x: np.ndarray) -> np.ndarray:
    """The inverse of the error function, to the accuracy of float32; infinite at -1 and 1."""
    w = -np.log1p(-x * x)
    near = polynomial(w - x.dtype.type(2.5), ERFINV_NEAR)
    far = polynomial(np.sqrt(w) - x.dtype.type(3), ERFINV_FAR)
    inside = np.where(w < 5, near, far) * x
    return np.where(np.abs(x) == 1, x * x.dtype.type(np.inf), inside)


def matmul(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The matrix product."""
    return np.matmul(x, y)


def remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The remainder with the sign of x; x itself where y is the integer 0."""
    if x.dtype.kind == "f":
        return np.fmod(x, y)
    return np.where(y == 0, x, np.fmod(x, np.where(y == 0, 1, y))).astype(x.dtype)


def quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x / y; for integers rounded towards 0, and -1 where y is 0."""
    if x.dtype.kind == "f":
        return np.divide(x, y)
    safe = np.where(y == 0, 1, y)
    whole = (x - np.fmod(x, safe)) // safe
    return np.where(y == 0, np.array(-1).astype(x.dtype), whole).astype(x.dtype)


def shifted(shift: Function) -> Function:
    """A shift of bits; by 32 or more of them it leaves 0."""

    def apply(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        width = x.dtype.itemsize * 8
        inside = (y >= 0) & (y < width)
        unsigned = x.view(x.dtype.str.replace("i", "u"))
        result = shift(unsigned, np.where(inside, y, 0).astype(unsigned.dtype))
        return np.where(inside, result, 0).astype(unsigned.dtype).view(x.dtype)

    return apply


PLAIN: dict[str, Function] = {
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "tanh": np.tanh,
    "logistic": logistic,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sin": np.sin,
    "cos": np.cos,
    "erf": erf,
    "erfinv": erfinv,
    "not": np.invert,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": quotient,
    "rem": remainder,
    "pow": np.power,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shift_left": shifted(np.left_shift),
    "shift_right": shifted(np.right_shift),
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "is_finite": np.isfinite,
    "select": np.where,
    "matmul": matmul,
    "key_fold_in": threefry.fold_in,
}


def conversion(dtype: str) -> Function:
    """To another dtype; fractions lose what is behind the point."""
    kind = np.dtype(dtype)
    return lambda x: x.astype(kind)


def slicing(axis: int, start: int, limit: int, step: int) -> Function:
    """Every step-th number from start to limit along an axis."""
    cut = (*[slice(None)] * axis, slice(start, limit, step))
    return lambda x: x[cut]


def padding(low: Shape, high: Shape) -> Function:
    """With a number around."""
    widths = list(zip(low, high, strict=True))
    return lambda x, value: np.pad(x, widths, constant_values=value)


def arg(function: Function, axis: int) -> Function:
    """The place of a number along an axis."""
    return lambda x: function(x, axis).astype(np.int32)


def reduction(function: Function, axes: Shape) -> Function:
    """Over some axes, in the dtype of x."""
    axes = tuple(axes)
    if function in (np.add.reduce, np.multiply.reduce):
        return lambda x: function(x, axes, x.dtype)
    return lambda x: function(x, axes)


def taking(axis: int) -> Function:
    """The entries at an index; beyond the ends the last ones."""
    return lambda x, index: np.take(x, index, axis, mode="clip")


def convolution(low: Shape, high: Shape, strides: Shape, dilation: Shape, groups: int) -> Function:
    """Images [B, H, W, C] with kernels [K, L, C / groups, O]."""
    widths = [(0, 0), *zip(low, high, strict=True), (0, 0)]

    def apply(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        image = np.pad(image, widths) if any((*low, *high)) else image
        reach = [(size - 1) * d + 1 for size, d in zip(kernel.shape, dilation, strict=False)]
        windows = np.lib.stride_tricks.sliding_window_view(image, reach, (1, 2))  # [B,h,w,C,K,L]
        windows = windows[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
        parts = zip(np.split(windows, groups, 3), np.split(kernel, groups, 3), strict=True)
        rows = [
            x.transpose(0, 1, 2, 4, 5, 3).reshape(*x.shape[:3], -1) @ k.reshape(-1, k.shape[3])
            for x, k in parts
        ]
        return rows[0] if groups == 1 else np.concatenate(rows, 3)

    return apply


REDUCED = {
    "sum": np.add.reduce,
    "prod": np.multiply.reduce,
    "reduce_max": np.maximum.reduce,
    "reduce_min": np.minimum.reduce,
    "all": np.logical_and.reduce,
    "any": np.logical_or.reduce,
}

# of kinds with attributes, the function that makes the operation of these
MADE: dict[str, Function] = {
    **{kind: lambda axes, f=f: reduction(f, axes) for kind, f in REDUCED.items()},
    "convert": conversion,
    "bitcast": lambda dtype: lambda x: np.ascontiguousarray(x).view(dtype).reshape(x.shape),
    "reshape": lambda shape: lambda x: x.reshape(shape),
    "transpose": lambda axes: lambda x: x.transpose(axes),
    "slice": slicing,
    "concatenate": lambda axis: lambda *parts: np.concatenate(parts, axis),
    "pad": padding,
    "argmax": lambda axis: arg(np.argmax, axis),
    "argmin": lambda axis: arg(np.argmin, axis),
    "cumsum": lambda axis: lambda x: np.cumsum(x, axis, x.dtype),
    "conv": convolution,
    "take": taking,
    "key_split": lambda shape: lambda key: threefry.split(key, tuple(shape)),
}

# likewise, for operations that also take the size of the batch
BATCHED: dict[str, Function] = {
    "broadcast": lambda shape: lambda x, batch: np.broadcast_to(x, sized(shape, batch)),
    "random_bits": lambda shape: lambda key, batch: threefry.random_bits(key, sized(shape, batch)),
}


def sized(shape: Any, batch: int) -> Shape:
    """A shape for a batch of this size."""
    return tuple(-size * batch if size < 0 else size for size in shape)


def function_of(operation: Operation) -> tuple[Function, bool]:
    """(an operation in NumPy, whether it also takes the size of the batch)."""
    kind, attributes = operation.kind, operation.attributes
    if kind in PLAIN:
        return PLAIN[kind], False
    made = BATCHED if kind in BATCHED else MADE
    attributes = {n: tuple(x) if isinstance(x, list) else x for n, x in attributes.items()}
    return made[kind](**attributes), kind in BATCHED


class Runner:
    """A program ready to run: called with its inputs by name it gives its outputs by name."""

    def __init__(self, program: Program):
        self.program = program
        names = ["", *(port.name for port in program.inputs), *program.constants]
        registers: dict[str, int] = {name: i for i, name in enumerate(names)}
        self.start: list[Any] = [None] * (1 + len(program.inputs)) + list(
            program.constants.values()
        )
        self.steps = []
        for operation in program.operations:
            function, batched = function_of(operation)
            inputs = [registers[name] for name in operation.inputs] + [0] * batched
            registers[operation.output.name] = len(self.start)
            self.steps.append((function, tuple(inputs), len(self.start)))
            self.start.append(None)
        self.registers = registers
        self.outputs = [(name, registers[value]) for name, value in program.outputs.items()]

    def __call__(self, inputs: dict[str, Any], batch: int) -> dict[str, Any]:
        """Outputs by name, of inputs [B, ...] by name."""
        r = self.start.copy()
        r[0] = batch
        for i, port in enumerate(self.program.inputs, 1):
            r[i] = inputs[port.name]
        self.fill(r)
        return {name: r[i] for name, i in self.outputs}

    def fill(self, r: list[Any]) -> None:
        """Runs all operations on registers."""
        with np.errstate(all="ignore"):
            for function, inputs, output in self.steps:
                if len(inputs) == 2:
                    a, b = inputs
                    r[output] = function(r[a], r[b])
                elif len(inputs) == 1:
                    r[output] = function(r[inputs[0]])
                else:
                    r[output] = function(*[r[i] for i in inputs])
