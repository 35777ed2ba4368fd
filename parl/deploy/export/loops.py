"""Programs as nested loops over flat arrays, which is what C and JavaScript have in common.

For one row: the batch is 1, so every size is known. A Dialect says how a language writes it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from parl.deploy.builder import UnsupportedOperation
from parl.deploy.program import Operation, Program
from parl.deploy.shapes import BINARY, COMPARISONS, UNARY, Port, Shape

ALIGNED = 8  # bytes
SIDE_BY_SIDE = {*UNARY, *BINARY, *COMPARISONS, "not", "is_finite", "select", "convert", "bitcast"}
BYTES = {"bool": 1, "uint8": 1, "int8": 1, "int16": 2, "uint16": 2}
BYTES |= {"int32": 4, "uint32": 4, "float32": 4, "int64": 8, "float64": 8}


class Dialect(Protocol):
    """How a language writes what loops do."""

    name: str

    def loop(self, variable: str, count: int) -> str:
        """The head of a loop from 0 to count - 1."""
        ...

    def expression(self, operation: Operation, dtype: str, arguments: Sequence[str]) -> str | None:
        """An elementwise operation on numbers of a dtype; None where there is none."""
        ...

    def declared(self, kind: str, variable: str, value: str) -> str:
        """A local number of a dtype."""
        ...

    def lowest(self, dtype: str, sign: int) -> str:
        """The smallest number of a dtype, or with sign -1 the largest."""
        ...

    def call(self, function: str, arguments: Sequence[str]) -> str:
        """A call of a helper."""
        ...


class Operand(NamedTuple):
    """Numbers of a flat array: where they begin, and the strides of the axes."""

    name: str
    strides: Shape
    offset: int = 0


class Room(NamedTuple):
    """Where a value lies in the workspace: bytes from its beginning, numbers of a dtype."""

    offset: int
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    dtype: str


class Code(NamedTuple):
    """The statements of a program, and the room that they need."""

    lines: list[str]
    rooms: dict[str, Room]  # of values
    aliases: dict[str, str]  # values that are others in another shape
    workspace: int  # bytes


def word(name: str) -> str:
    """A name as programming languages take it."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)


def one_row(port: Port) -> Port:
    """A port for a batch of one."""
    return port._replace(shape=tuple(abs(size) for size in port.shape))


def code(program: Program, dialect: Dialect) -> Code:
    """The statements of a program. Raises UnsupportedOperation."""
    ports = {name: one_row(port) for name, port in program.ports.items()}
    aliases = aliases_of(program)
    rooms, workspace = places(program, ports, aliases)
    lines: list[str] = []
    writer = Writer(dialect, ports, aliases, lines)
    for operation in program.operations:
        writer.write(operation)
    return Code(lines, rooms, aliases, workspace)


def aliases_of(program: Program) -> dict[str, str]:
    """Values that are others in another shape, and which ones."""
    aliases: dict[str, str] = {}
    for operation in program.operations:
        if operation.kind == "reshape":
            source = operation.inputs[0]
            aliases[operation.output.name] = aliases.get(source, source)
    return aliases


def places(
    program: Program, ports: dict[str, Port], aliases: dict[str, str]
) -> tuple[dict[str, Room], int]:
    """(where each value lies, bytes in all): a place is used anew once nobody needs its value."""
    root = {name: aliases.get(name, name) for name in ports}
    last: dict[Any, int] = {}
    for i, operation in enumerate(program.operations):
        last |= {root[name]: i for name in operation.inputs}
    last |= {root[value]: len(program.operations) for value in program.outputs.values()}
    rooms: dict[str, Room] = {}
    taken: list[tuple[int, int, str]] = []  # from, to, whose
    most = 0
    for i, operation in enumerate(program.operations):
        name = operation.output.name
        if name in aliases:
            continue
        taken = [each for each in taken if last.get(each[2], -1) >= i]
        port = ports[name]
        size = math.prod(port.shape) * BYTES[port.dtype]
        size = -(-size // ALIGNED) * ALIGNED
        start = 0
        for begin, end, _ in sorted(taken):
            if start + size <= begin:
                break
            start = max(start, end)
        taken.append((start, start + size, name))
        rooms[name] = Room(start, math.prod(port.shape), port.dtype)
        most = max(most, start + size)
    return rooms, most


def strides_of(shape: Shape) -> Shape:
    """The strides of an array in C order."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def broadcast_strides(shape: Shape, wide: Shape) -> Shape:
    """Strides with which an array of `shape` is read as one of the shape `wide`."""
    full = (1,) * (len(wide) - len(shape)) + shape
    return tuple(0 if size == 1 else s for size, s in zip(full, strides_of(full), strict=True))


class Writer:
    """Writes operations as loops."""

    def __init__(self, dialect: Dialect, ports: dict[str, Port], aliases: Any, lines: list[str]):
        self.dialect, self.ports, self.aliases, self.lines = dialect, ports, aliases, lines

    def write(self, operation: Operation) -> None:
        """The loops of one operation. Raises UnsupportedOperation."""
        kind, output = operation.kind, one_row(operation.output)
        inputs = [self.ports[name] for name in operation.inputs]
        if kind == "reshape":
            return
        if kind in SIDE_BY_SIDE:
            self.side_by_side(operation, inputs, output)
        elif kind in WRITERS:
            WRITERS[kind](self, inputs, output, operation.attributes)
        else:
            raise self.missing(kind)

    def missing(self, kind: str) -> UnsupportedOperation:
        """The error for an operation that the language lacks."""
        return UnsupportedOperation(
            f"the form {self.dialect.name} has no operation '{kind}': use another form, such as "
            "numpy."
        )

    def of(self, port: Port) -> str:
        """The name of the array that holds a value."""
        return word(self.aliases.get(port.name, port.name))

    def operand(self, port: Port, strides: Shape | None = None, offset: int = 0) -> Operand:
        """A value's numbers, as they lie there unless told otherwise."""
        return Operand(
            self.of(port), strides_of(port.shape) if strides is None else strides, offset
        )

    def side_by_side(self, operation: Operation, inputs: list[Port], output: Port) -> None:
        """Numbers side by side, those of size 1 along an axis again and again."""
        wide = [self.operand(x, broadcast_strides(x.shape, output.shape)) for x in inputs]
        dtype = inputs[-1].dtype

        def statement(at: list[str]) -> str:
            made = self.dialect.expression(operation, dtype, at[1:])
            if made is None:
                raise self.missing(f"{operation.kind} of {dtype}")
            return f"{at[0]} = {made};"

        self.nest(output.shape, [self.operand(output), *wide], statement)

    def copy(self, shape: Shape, to: Operand, source: Operand) -> None:
        """Numbers from one place to another."""
        self.nest(shape, [to, source], lambda at: f"{at[0]} = {at[1]};")

    def nest(
        self,
        shape: Shape,
        operands: list[Operand],
        statement: Callable[[list[str]], str | list[str]],
    ) -> None:
        """Loops over `shape` around a statement of the operands' numbers."""
        sizes, strides = merged(shape, [o.strides for o in operands])
        names = [f"i{d}" for d in range(len(sizes))]
        for depth, (name, size) in enumerate(zip(names, sizes, strict=True)):
            self.lines.append("  " * depth + self.dialect.loop(name, size) + " {")
        at = [
            f"{o.name}[{index(o.offset, names, s)}]" for o, s in zip(operands, strides, strict=True)
        ]
        made = statement(at)
        made = [made] if isinstance(made, str) else ["{", *made, "}"]
        for line in made:
            self.lines.append("  " * len(sizes) + line)
        for depth in reversed(range(len(sizes))):
            self.lines.append("  " * depth + "}")


def index(offset: int, names: list[str], strides: Sequence[int]) -> str:
    """The place of a number."""
    terms = [
        name if stride == 1 else f"{name} * {stride}"
        for name, stride in zip(names, strides, strict=True)
        if stride
    ]
    terms += [str(offset)] if offset or not terms else []
    return " + ".join(terms)


def merged(shape: Shape, strides: list[Shape]) -> tuple[list[int], list[list[int]]]:
    """The same loops with as few axes as there can be: (sizes, strides of each operand)."""
    sizes: list[int] = []
    kept: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        here = [s[axis] for s in strides]
        if sizes and all(k[-1] == s * size for k, s in zip(kept, here, strict=True)):
            sizes[-1] *= size
            for k, s in zip(kept, here, strict=True):
                k[-1] = s
        else:
            sizes.append(size)
            for k, s in zip(kept, here, strict=True):
                k.append(s)
    return sizes, kept


# --- operations that are not side by side -----------------------------------------------------

Inputs = list[Port]
How = dict[str, Any]


def broadcast(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
    """Repeated along axes of size 1."""
    strides = broadcast_strides(inputs[0].shape, output.shape)
    w.copy(output.shape, w.operand(output), w.operand(inputs[0], strides))


def transposed(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
    """Axes in another order."""
    own = strides_of(inputs[0].shape)
    w.copy(
        output.shape, w.operand(output), w.operand(inputs[0], tuple(own[a] for a in how["axes"]))
    )


def sliced(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
    """Fewer numbers along an axis."""
    own, axis = list(strides_of(inputs[0].shape)), how["axis"]
    offset = own[axis] * how["start"]
    own[axis] *= how["step"]
    w.copy(output.shape, w.operand(output), w.operand(inputs[0], tuple(own), offset))


def concatenated(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
    """One after the other along an axis."""
    strides, axis, start = strides_of(output.shape), how["axis"], 0
    for x in inputs:
        w.copy(x.shape, w.operand(output, strides, start * strides[axis]), w.operand(x))
        start += x.shape[axis]


def padded(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
    """With a number around."""
    x, value = inputs
    zeros = (0,) * len(output.shape)
    w.copy(output.shape, w.operand(output), w.operand(value, zeros))
    strides = strides_of(output.shape)
    offset = sum(low * s for low, s in zip(how["low"], strides, strict=True))
    w.copy(x.shape, w.operand(output, strides, offset), w.operand(x))


def reduction(start: str, combine: str) -> Callable[..., None]:
    """A reduction over axes, from a start on; `{}` in it is the dtype's lowest or highest."""

    def write(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
        (x,) = inputs
        sign = {"lowest": 1, "highest": -1}.get(start)
        first = start if sign is None else w.dialect.lowest(x.dtype, sign)
        w.nest(output.shape, [w.operand(output)], lambda at: f"{at[0]} = {first};")
        own = iter(strides_of(output.shape))
        wide = tuple(0 if axis in how["axes"] else next(own) for axis in range(len(x.shape)))
        line = lambda at: combine.format(o=at[0], x=at[1])
        w.nest(x.shape, [w.operand(output, wide), w.operand(x)], line)

    return write


def arg(comparison: str) -> Callable[..., None]:
    """The first place of the largest or smallest number along an axis."""

    def write(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
        (x,), axis = inputs, how["axis"]
        own = strides_of(x.shape)
        rest = tuple(s for i, s in enumerate(own) if i != axis)
        loop = w.dialect.loop("k", x.shape[axis])

        def search(at: list[str]) -> list[str]:
            place = at[1][:-1] + f" + k * {own[axis]}]"
            return [
                w.dialect.declared(x.dtype, "best", at[1]),
                f"{at[0]} = 0;",
                f"{loop} {{ if ({place} {comparison} best) {{ best = {place}; {at[0]} = k; }} }}",
            ]

        w.nest(output.shape, [w.operand(output), w.operand(x, rest)], search)

    return write


def cumulative(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
    """Sums so far along an axis."""
    (x,), axis = inputs, how["axis"]
    own = strides_of(x.shape)
    rest = tuple(0 if i == axis else s for i, s in enumerate(own))
    shape = tuple(1 if i == axis else size for i, size in enumerate(x.shape))
    loop = w.dialect.loop("k", x.shape[axis])

    def add(at: list[str]) -> list[str]:
        to, source = (each[:-1] + f" + k * {own[axis]}]" for each in at)
        zero = w.dialect.declared(x.dtype, "total", "0")
        return [zero, f"{loop} {{ total += {source}; {to} = total; }}"]

    w.nest(shape, [w.operand(output, rest), w.operand(x, rest)], add)


def multiplied(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
    """[..., m, k] x [..., k, n] -> [..., m, n], row by row."""
    x, y = inputs
    lead, (m, n), k = output.shape[:-2], output.shape[-2:], x.shape[-1]
    wide = lambda port: broadcast_strides(port.shape[:-2], lead)
    scale = lambda strides, size: tuple(s * size for s in strides)
    operands = [
        w.operand(output, (*scale(strides_of(lead), m * n), n)),
        w.operand(x, (*scale(wide(x), m * k), k)),
        w.operand(y, (*scale(wide(y), k * n), 0)),
    ]
    inner, outer = w.dialect.loop("j", n), w.dialect.loop("k", k)

    def row(at: list[str]) -> list[str]:
        to, left, right = (each[:-1] for each in at)
        return [
            f"{inner} {{ {to} + j] = 0; }}",
            f"{outer} {{",
            "  " + w.dialect.declared(x.dtype, "factor", f"{left} + k]"),
            f"  {inner} {{ {to} + j] += factor * {right} + k * {n} + j]; }}",
            "}",
        ]

    w.nest((*lead, m), operands, row)


def convolved(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
    """Images [1, H, W, C] with kernels [K, L, C / groups, O]."""
    image, kernel = inputs
    _, height, width, channels = image.shape
    rows, columns, inner, features = kernel.shape
    dialect, of = w.dialect, w.of
    (up, left), (down, right), groups = how["strides"], how["dilation"], how["groups"]
    each = features // groups
    _, out_height, out_width, _ = output.shape
    heads = [dialect.loop("y", out_height), dialect.loop("x", out_width)]
    to = f"{of(output)}[(y * {out_width} + x) * {features}"
    weight = f"{of(kernel)}[((k * {columns} + l) * {inner} + c) * {features}"
    lines = [
        f"{heads[0]} {{ {heads[1]} {{",
        f"  {dialect.loop('o', features)} {{ {to} + o] = 0; }}",
        f"  {dialect.loop('k', rows)} {{ {dialect.loop('l', columns)} {{",
        "    " + dialect.declared("int32", "v", f"y * {up} + k * {down} - {how['low'][0]}"),
        "    " + dialect.declared("int32", "h", f"x * {left} + l * {right} - {how['low'][1]}"),
        f"    if (v < 0 || v >= {height} || h < 0 || h >= {width}) continue;",
        f"    {dialect.loop('g', groups)} {{ {dialect.loop('c', inner)} {{",
        "      "
        + dialect.declared(
            image.dtype, "factor", f"{of(image)}[(v * {width} + h) * {channels} + g * {inner} + c]"
        ),
        f"      {dialect.loop('o', each)} {{",
        f"        {to} + g * {each} + o] += factor * {weight} + g * {each} + o];",
        "      }",
        "    } }",
        "  } }",
        "} }",
    ]
    w.lines += lines


def taken(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
    """The entries at an index; beyond the ends the last ones."""
    (x, index_port), axis = inputs, how["axis"]
    size, rank = x.shape[axis], len(index_port.shape)
    own = strides_of(x.shape)
    strides = (*own[:axis], *(0,) * rank, *own[axis + 1 :])
    of_index = (*(0,) * axis, *strides_of(index_port.shape), *(0,) * len(x.shape[axis + 1 :]))
    operands = [w.operand(output), w.operand(x, strides), w.operand(index_port, of_index)]

    def pick(at: list[str]) -> str:
        inside = f"({at[2]} < 0 ? 0 : {at[2]} > {size - 1} ? {size - 1} : {at[2]})"
        if index_port.dtype.startswith("u"):
            inside = f"({at[2]} > {size - 1} ? {size - 1} : {at[2]})"
        return f"{at[0]} = {at[1][:-1]} + {inside} * {own[axis]}];"

    w.nest(output.shape, operands, pick)


def drawn(function: str) -> Callable[..., None]:
    """A helper that draws: (result, count or second operand, key)."""

    def write(w: Writer, inputs: Inputs, output: Port, how: How) -> None:
        arguments = [w.of(output), w.of(inputs[0])]
        if function == "policy_fold_in":
            arguments.append(f"{w.of(inputs[1])}[0]")
        else:
            arguments.append(
                str(math.prod(output.shape) // (2 if function == "policy_split" else 1))
            )
        w.lines.append(w.dialect.call(function, arguments))

    return write


WRITERS: dict[str, Callable[[Writer, Inputs, Port, How], None]] = {
    "broadcast": broadcast,
    "transpose": transposed,
    "slice": sliced,
    "concatenate": concatenated,
    "pad": padded,
    "sum": reduction("0", "{o} += {x};"),
    "prod": reduction("1", "{o} *= {x};"),
    "reduce_max": reduction("lowest", "if ({x} > {o}) {o} = {x};"),
    "reduce_min": reduction("highest", "if ({x} < {o}) {o} = {x};"),
    "all": reduction("1", "if (!{x}) {o} = 0;"),
    "any": reduction("0", "if ({x}) {o} = 1;"),
    "argmax": arg(">"),
    "argmin": arg("<"),
    "cumsum": cumulative,
    "matmul": multiplied,
    "conv": convolved,
    "take": taken,
    "key_split": drawn("policy_split"),
    "key_fold_in": drawn("policy_fold_in"),
    "random_bits": drawn("policy_bits"),
}
