"""The shape and dtype that every operation of a program gives, or why it cannot be made.

Shapes are tuples of sizes. A negative size -k is k times the batch, of which a shape has one at
most, so that a shape is also what numpy's reshape takes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]
DTYPES = (
    "bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64",
)  # fmt: skip
LARGEST = 1 << 28  # numbers of one value, for a batch of one
FLOATS = ("float32", "float64")


class Port(NamedTuple):
    """A value that a program is given, or one that it gives."""

    name: str
    shape: Shape
    dtype: str


def require(holds: bool, otherwise: str) -> None:
    """Raises ValueError, which says so, unless something holds."""
    if not holds:
        raise ValueError(otherwise)


def text(value: Any) -> str:
    """A name. Raises ValueError for anything else."""
    require(isinstance(value, str) and 0 < len(value) <= 200, f"{value!r:.60} is no name")
    return value


def whole(value: Any) -> int:
    """An integer. Raises ValueError for anything else."""
    require(type(value) is int and abs(value) < 1 << 40, f"{value!r:.60} is no integer")
    return value


def shape_of(value: Any) -> Shape:
    """A list of integers as a tuple. Raises ValueError for anything else."""
    require(isinstance(value, list | tuple) and len(value) <= 16, f"{value!r:.60} is no shape")
    return tuple(map(whole, value))


def check_size(shape: Shape) -> Shape:
    """The shape. Raises ValueError where it is of too many numbers, or of two batches."""
    require(sum(size < 0 for size in shape) <= 1, f"{shape} has two batch axes")
    require(size_of(shape) <= LARGEST, f"{shape} is of too many numbers")
    return shape


def size_of(shape: Shape) -> int:
    """Numbers in a value, for a batch of one."""
    return abs(math.prod(shape))


UNARY = (
    "neg", "abs", "sign", "floor", "ceil", "round", "exp", "log", "log1p", "expm1", "tanh",
    "logistic", "sqrt", "rsqrt", "sin", "cos", "erf", "erfinv",
)  # fmt: skip
BINARY = (
    "add", "sub", "mul", "div", "rem", "pow", "max", "min", "and", "or", "xor", "shift_left",
    "shift_right",
)  # fmt: skip
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
REDUCTIONS = ["sum", "prod", "reduce_max", "reduce_min", "all", "any"]


def infer(kind: str, ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """The shape and dtype that an operation gives. Raises ValueError where it cannot be made."""
    require(kind in RULES, f"there is no operation {kind!r}")
    require(isinstance(attributes, dict), f"the attributes of {kind} are no object")
    rule, count, names = RULES[kind]
    require(count in (None, len(ports)), f"{kind} takes {count} values, not {len(ports)}")
    require(attributes.keys() == set(names), f"{kind} has the attributes {sorted(names)}")
    shape, dtype = rule(ports, attributes)
    return check_size(tuple(shape)), dtype


def joined(*shapes: Shape) -> Shape:
    """The shape that arrays have together, as numpy broadcasts."""
    rank = max(map(len, shapes))
    full = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result = []
    for sizes in zip(*full, strict=True):
        own = {size for size in sizes if size != 1} or {1}
        require(len(own) == 1, f"{shapes} do not go together")
        result.append(own.pop())
    return tuple(result)


def same_dtype(ports: Sequence[Port]) -> str:
    """The dtype of all. Raises ValueError where they differ."""
    require(len({port.dtype for port in ports}) == 1, "dtypes differ")
    return ports[0].dtype


def elementwise(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """Of numbers side by side."""
    return joined(*(port.shape for port in ports)), same_dtype(ports)


def compared(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """Flags of numbers side by side."""
    return elementwise(ports, attributes)[0], "bool"


def selected(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """Of flags, and of two values side by side."""
    require(ports[0].dtype == "bool", "select needs flags")
    return joined(*(port.shape for port in ports)), same_dtype(ports[1:])


def converted(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """The same shape in another dtype."""
    require(attributes["dtype"] in DTYPES, f"{attributes['dtype']!r} is no dtype of policies")
    return ports[0].shape, attributes["dtype"]


def bitcast(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """The same bits in another dtype."""
    shape, dtype = converted(ports, attributes)
    sizes = {np.dtype(ports[0].dtype).itemsize, np.dtype(dtype).itemsize}
    require(len(sizes) == 1 and "bool" not in (dtype, ports[0].dtype), "bits do not fit")
    return shape, dtype


def reshaped(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """As many numbers in another shape."""
    old, new = ports[0].shape, check_size(shape_of(attributes["shape"]))
    fits = math.prod(old) == math.prod(new) and (min(old, default=1) < 0) == (
        min(new, default=1) < 0
    )
    require(fits and 0 not in new, f"{old} does not become {new}")
    return new, ports[0].dtype


def broadcast(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """Numbers repeated along axes of size 1."""
    new = shape_of(attributes["shape"])
    require(joined(ports[0].shape, new) == new, f"{ports[0].shape} does not become {new}")
    return new, ports[0].dtype


def transposed(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """Axes in another order."""
    axes, old = shape_of(attributes["axes"]), ports[0].shape
    require(sorted(axes) == list(range(len(old))), f"{axes} are not the axes of {old}")
    return tuple(old[axis] for axis in axes), ports[0].dtype


def axis_of(port: Port, value: Any) -> int:
    """An axis of a value whose size is fixed."""
    axis = whole(value)
    require(0 <= axis < len(port.shape), f"{port.shape} has no axis {axis}")
    require(port.shape[axis] >= 0, f"axis {axis} of {port.shape} is the batch")
    return axis


def sliced(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """Fewer numbers along an axis."""
    axis = axis_of(ports[0], attributes["axis"])
    start, limit, step = (whole(attributes[name]) for name in ("start", "limit", "step"))
    require(0 <= start < limit <= ports[0].shape[axis] and step > 0, "the slice is outside")
    return replaced(ports[0].shape, axis, -(-(limit - start) // step)), ports[0].dtype


def replaced(shape: Shape, axis: int, size: int) -> Shape:
    """The shape with another size on one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


def concatenated(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """One after the other along an axis."""
    require(len(ports) > 0, "nothing to concatenate")
    axis = axis_of(ports[0], attributes["axis"])
    require(len({replaced(port.shape, axis, 0) for port in ports}) == 1, "shapes differ")
    return replaced(ports[0].shape, axis, sum(p.shape[axis] for p in ports)), same_dtype(ports)


def padded(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """With a number around."""
    low, high = shape_of(attributes["low"]), shape_of(attributes["high"])
    x, value = ports
    require(len(low) == len(high) == len(x.shape) and value.shape == (), "pads do not fit")
    require(min((*low, *high), default=0) >= 0, "pads are negative")
    sizes = list(zip(x.shape, low, high, strict=True))
    require(all(size >= 0 or not a + b for size, a, b in sizes), "the batch cannot be padded")
    return tuple(size + a + b for size, a, b in sizes), same_dtype(ports)


def reduced(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """Without some axes."""
    axes = {axis_of(ports[0], axis) for axis in shape_of(attributes["axes"])}
    require(all(ports[0].shape[axis] > 0 for axis in axes), "nothing to reduce")
    return tuple(s for i, s in enumerate(ports[0].shape) if i not in axes), ports[0].dtype


def arg_reduced(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """The place of a number along an axis, which goes."""
    axis = axis_of(ports[0], attributes["axis"])
    return reduced(ports, {"axes": [axis]})[0], "int32"


def accumulated(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """As it was."""
    axis_of(ports[0], attributes["axis"])
    return ports[0].shape, ports[0].dtype


def multiplied(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """[..., m, k] x [..., k, n] -> [..., m, n]."""
    left, right = (list(port.shape) for port in ports)
    require(len(left) >= 2 and len(right) >= 2 and left[-1] == right[-2] > 0, "do not multiply")
    require(same_dtype(ports) in FLOATS, "matmul takes floats")
    return (*joined(tuple(left[:-2]), tuple(right[:-2])), left[-2], right[-1]), ports[0].dtype


def convolved(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """Images [B, H, W, C] and kernels [K, L, C / groups, O] -> [B, H', W', O]."""
    image, kernel = (port.shape for port in ports)
    require(len(image) == len(kernel) == 4 and min(image[1:]) > 0, "these are no images")
    low, high, strides, dilation = (
        shape_of(attributes[name]) for name in ("low", "high", "strides", "dilation")
    )
    groups = whole(attributes["groups"])
    lists = low, high, strides, dilation
    require(all(len(x) == 2 for x in lists) and min(*low, *high) >= 0, "paddings do not fit")
    require(groups > 0 and min(*strides, *dilation) > 0, "strides do not fit")
    require(image[3] == kernel[2] * groups and kernel[3] % groups == 0, "channels do not fit")
    sides = []
    for i in range(2):
        reach = (kernel[i] - 1) * dilation[i] + 1
        sides.append((image[i + 1] + low[i] + high[i] - reach) // strides[i] + 1)
    require(min(sides) > 0 and min(kernel) > 0, "the kernel is larger than the image")
    return (image[0], *sides, kernel[3]), same_dtype(ports)


def taken(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """The entries at an index in place of an axis."""
    x, index = ports
    axis = axis_of(x, attributes["axis"])
    require(index.dtype in ("int32", "int64", "uint32", "uint8"), "the index is not of integers")
    require(x.shape[axis] > 0, "nothing to take")
    return (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), x.dtype


def key_split(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """Keys [*shape, 2] of a key."""
    check_key(ports[0])
    return (*shape_of(attributes["shape"]), 2), "uint32"


def key_fold_in(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """A key of a key and a number."""
    check_key(ports[0])
    require(ports[1].shape == () and ports[1].dtype == "uint32", "fold_in takes one uint32")
    return (2,), "uint32"


def drawn_bits(ports: Sequence[Port], attributes: Any) -> tuple[Shape, str]:
    """Random bits [*shape] of a key."""
    check_key(ports[0])
    return shape_of(attributes["shape"]), "uint32"


def check_key(port: Port) -> None:
    """Raises ValueError for what is no key."""
    require(port.shape == (2,) and port.dtype == "uint32", "a key is uint32[2]")


Rule = tuple[Callable[[Sequence[Port], Any], tuple[Shape, str]], int | None, tuple[str, ...]]

# of each kind of operation: its rule, how many values it takes, its attributes
RULES: dict[str, Rule] = {
    **{kind: (elementwise, 1, ()) for kind in (*UNARY, "not")},
    **{kind: (elementwise, 2, ()) for kind in BINARY},
    **{kind: (compared, 2, ()) for kind in COMPARISONS},
    **{kind: (reduced, 1, ("axes",)) for kind in REDUCTIONS},
    "is_finite": (compared, 1, ()),
    "select": (selected, 3, ()),  # where the first is true the second, else the third
    "convert": (converted, 1, ("dtype",)),
    "bitcast": (bitcast, 1, ("dtype",)),
    "reshape": (reshaped, 1, ("shape",)),
    "broadcast": (broadcast, 1, ("shape",)),
    "transpose": (transposed, 1, ("axes",)),
    "slice": (sliced, 1, ("axis", "start", "limit", "step")),
    "concatenate": (concatenated, None, ("axis",)),
    "pad": (padded, 2, ("low", "high")),
    "argmax": (arg_reduced, 1, ("axis",)),
    "argmin": (arg_reduced, 1, ("axis",)),
    "cumsum": (accumulated, 1, ("axis",)),
    "matmul": (multiplied, 2, ()),
    "conv": (convolved, 2, ("low", "high", "strides", "dilation", "groups")),
    "take": (taken, 2, ("axis",)),
    "key_split": (key_split, 1, ("shape",)),
    "key_fold_in": (key_fold_in, 2, ()),
    "random_bits": (drawn_bits, 1, ("shape",)),
}
