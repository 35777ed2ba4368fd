"""The form c: policy.h, one header of C99 without malloc, static data or anything but libm.

It acts for one row; all that it works with lies in a workspace that the caller gives, so that it is
reentrant.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from parl.deploy.export.loops import Code, code, one_row, word
from parl.deploy.program import Operation, Program
from parl.deploy.shapes import COMPARISONS, Port

FILE = "policy.h"
TYPES = {
    "bool": "uint8_t", "uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t",
    "uint16": "uint16_t", "int32": "int32_t", "uint32": "uint32_t", "int64": "int64_t",
    "float32": "float", "float64": "double",
}  # fmt: skip
MATH = {  # of float and of double
    "floor": "floor", "ceil": "ceil", "round": "nearbyint", "exp": "exp", "log": "log",
    "log1p": "log1p", "expm1": "expm1", "tanh": "tanh", "sqrt": "sqrt", "sin": "sin",
    "cos": "cos", "erf": "erf", "abs": "fabs", "pow": "pow", "rem": "fmod",
}  # fmt: skip
INFIX = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^"}
COMPARED = dict(zip(COMPARISONS, ("==", "!=", "<", "<=", ">", ">="), strict=True))
LIMITS = {
    "int32": ("INT32_MIN", "INT32_MAX"), "uint32": ("0u", "UINT32_MAX"), "bool": ("0", "1"),
    "int64": ("INT64_MIN", "INT64_MAX"), "uint8": ("0", "UINT8_MAX"), "int8": ("-128", "127"),
    "int16": ("INT16_MIN", "INT16_MAX"), "uint16": ("0", "UINT16_MAX"),
    "float32": ("-INFINITY", "INFINITY"), "float64": ("-INFINITY", "INFINITY"),
}  # fmt: skip
HELPERS = """
static inline uint32_t policy_turn(uint32_t x, int n) { return (x << n) | (x >> (32 - n)); }

/* Threefry-2x32 with 20 rounds, as jax.random has it. */
static inline void policy_threefry(
    const uint32_t *key, uint32_t high, uint32_t low, uint32_t *out) {
  static const int turns[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  const uint32_t keys[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDAu};
  uint32_t x = high + keys[0], y = low + keys[1];
  for (int i = 0; i < 5; i++) {
    for (int j = 0; j < 4; j++) { x += y; y = policy_turn(y, turns[i % 2][j]) ^ x; }
    x += keys[(i + 1) % 3];
    y += keys[(i + 2) % 3] + (uint32_t)(i + 1);
  }
  out[0] = x;
  out[1] = y;
}

static inline void policy_bits(uint32_t *out, const uint32_t *key, int count) {
  for (int i = 0; i < count; i++) {
    uint32_t pair[2];
    policy_threefry(key, 0, (uint32_t)i, pair);
    out[i] = pair[0] ^ pair[1];
  }
}

static inline void policy_split(uint32_t *out, const uint32_t *key, int count) {
  for (int i = 0; i < count; i++) policy_threefry(key, 0, (uint32_t)i, out + 2 * i);
}

static inline void policy_fold_in(uint32_t *out, const uint32_t *key, uint32_t data) {
  policy_threefry(key, 0, data, out);
}

/* The key of a seed at a step of an episode: jax.random.fold_in(jax.random.key(seed), step). */
static inline void policy_key(uint32_t *out, uint32_t seed, uint32_t step) {
  const uint32_t key[2] = {0, seed};
  policy_fold_in(out, key, step);
}

static inline float policy_float_of(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
static inline uint32_t policy_bits_of(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }

/* Giles 2010, "Approximating the erfinv function", single precision. */
static inline float policy_erfinv(float x) {
  static const float near_[9] = {2.81022636e-08f, 3.43273939e-07f, -3.5233877e-06f,
    -4.39150654e-06f, 0.00021858087f, -0.00125372503f, -0.00417768164f, 0.246640727f, 1.50140941f};
  static const float far_[9] = {-0.000200214257f, 0.000100950558f, 0.00134934322f,
    -0.00367342844f, 0.00573950773f, -0.0076224613f, 0.00943887047f, 1.00167406f, 2.83297682f};
  float w = -log1pf(-x * x), sum;
  const int is_near = w < 5.0f;
  w = is_near ? w - 2.5f : sqrtf(w) - 3.0f;
  sum = is_near ? near_[0] : far_[0];
  for (int i = 1; i < 9; i++) sum = sum * w + (is_near ? near_[i] : far_[i]);
  return x == 1.0f || x == -1.0f ? x * INFINITY : sum * x;
}
"""


class C:
    """How C writes loops."""

    name = "c"

    def loop(self, variable: str, count: int) -> str:
        return f"for (int {variable} = 0; {variable} < {count}; {variable}++)"

    def declared(self, kind: str, variable: str, value: str) -> str:
        return f"{TYPES[kind]} {variable} = {value};"

    def lowest(self, dtype: str, sign: int) -> str:
        return LIMITS[dtype][0 if sign > 0 else 1]

    def call(self, function: str, arguments: Sequence[str]) -> str:
        return f"{function}({', '.join(arguments)});"

    def expression(self, operation: Operation, dtype: str, arguments: Sequence[str]) -> str | None:
        kind, x, y = operation.kind, arguments[0], arguments[-1]
        is_float, suffix = dtype.startswith("float"), "f" if dtype == "float32" else ""
        one = f"1.0{suffix}"
        to = TYPES[operation.output.dtype]
        if kind in COMPARED:
            return f"{x} {COMPARED[kind]} {y}"
        if kind in INFIX:
            made = f"{x} {INFIX[kind]} {y}"
            return made if is_float else f"({to})({made})"
        if is_float and kind in MATH:
            return f"{MATH[kind]}{suffix}({', '.join(arguments)})"
        plain = {
            "neg": f"({to})-{x}",
            "not": f"!{x}" if dtype == "bool" else f"({to})~{x}",
            "max": f"{x} > {y} ? {x} : {y}",
            "min": f"{x} < {y} ? {x} : {y}",
            "select": f"{x} ? {arguments[1 % len(arguments)]} : {y}",
            "sign": f"({to})(({x} > 0) - ({x} < 0))",
        }
        if kind in plain:
            return plain[kind]
        if kind == "convert":
            return f"{x} != 0" if operation.output.dtype == "bool" else f"({to}){x}"
        if kind == "bitcast":
            return self.bits(dtype, operation.output.dtype, x)
        if is_float:
            return {
                "div": f"{x} / {y}",
                "logistic": f"{one} / ({one} + exp{suffix}(-{x}))",
                "rsqrt": f"{one} / sqrt{suffix}({x})",
                "is_finite": f"isfinite({x}) != 0",
                "erfinv": f"policy_erfinv({x})" if suffix else None,
            }.get(kind)
        return {
            "div": f"{y} == 0 ? ({to})-1 : ({to})({x} / {y})",
            "rem": f"{y} == 0 ? {x} : ({to})({x} % {y})",
            "abs": f"{x} < 0 ? ({to})-{x} : {x}",
            "shift_left": f"{y} > 31 ? 0 : ({to})({x} << {y})" if dtype == "uint32" else None,
            "shift_right": f"{y} > 31 ? 0 : ({to})({x} >> {y})" if dtype == "uint32" else None,
        }.get(kind)

    def bits(self, source: str, to: str, x: str) -> str | None:
        """The same bits in another dtype."""
        if source == to:
            return x
        if {source, to} == {"int32", "uint32"}:
            return f"({TYPES[to]}){x}"
        if to == "float32":
            return f"policy_float_of((uint32_t){x})"
        return f"({TYPES[to]})policy_bits_of({x})" if source == "float32" else None


def write(place: Path, programs: dict[str, Program]) -> str:
    """Writes the form; its file's name. Raises UnsupportedOperation."""
    (place / FILE).write_text(source(programs))
    return FILE


def source(programs: dict[str, Program]) -> str:
    """The header of some programs: a function policy_NAME each."""
    made = {name: code(program, C()) for name, program in programs.items()}
    constants = {n: x for program in programs.values() for n, x in program.constants.items()}
    workspace = max([8, *(each.workspace for each in made.values())])
    parts = [
        "/* A policy that PARL exported; see README.md beside it. Compile with -lm. */",
        "#ifndef PARL_POLICY_H\n#define PARL_POLICY_H\n",
        "#include <math.h>\n#include <stdint.h>\n#include <string.h>\n",
        f"/* Bytes, aligned for a double, that every call is given to work in. */\n"
        f"#define POLICY_WORKSPACE {workspace}",
        HELPERS.strip(),
        *(constant(name, x) for name, x in constants.items()),
        *(function(name, programs[name], each) for name, each in made.items()),
        "#endif",
    ]
    return "\n".join(parts) + "\n"


def constant(name: str, array: np.ndarray) -> str:
    """The numbers of a constant, in lines of 12."""
    words = [number(x, array.dtype) for x in array.reshape(-1)]
    lines = [", ".join(words[i : i + 12]) for i in range(0, len(words), 12)]
    return (
        f"static const {TYPES[array.dtype.name]} {name}[{array.size}] = {{\n"
        + ",\n".join(lines)
        + "};"
    )


def number(x: np.generic, dtype: np.dtype) -> str:
    """A number as C has it."""
    if dtype.kind == "b":
        return str(int(x))
    if dtype.kind in "iu":
        value = int(x)
        if value == -(2**63):
            return "INT64_MIN"
        tail = {"uint32": "u", "int64": "LL"}.get(dtype.name, "")
        return "(-2147483647 - 1)" if value == -(2**31) and not tail else f"{value}{tail}"
    if not np.isfinite(x):
        return "NAN" if np.isnan(x) else "INFINITY" if float(x) > 0 else "-INFINITY"
    words = f"{float(x):.9g}" if dtype == np.float32 else f"{float(x):.17g}"
    words = words if any(c in words for c in ".e") else words + ".0"
    return words + ("f" if dtype == np.float32 else "")


def parameters(ports: Iterable[Port], is_const: bool) -> list[str]:
    """Pointers of a function, with how many numbers each leads to."""
    return [
        f"{'const ' * is_const}{TYPES[port.dtype]} *{word(port.name)} /* {list(port.shape)} */"
        for port in ports
    ]


def wrapper(name: str, program: Program) -> str:
    """A C file that offers a program's function to other languages, as `act` of pointers."""
    count = len(program.inputs) + len(program.outputs) + 1
    heads = ", ".join(f"void *p{i}" for i in range(count))
    given = ", ".join(f"p{i}" for i in range(count))
    return (
        '#include "policy.h"\n'
        "int policy_workspace(void);\n"
        "int policy_workspace(void) { return POLICY_WORKSPACE; }\n"
        f"void act({heads});\n"
        f"void act({heads}) {{ policy_{name}({given}); }}\n"
    )


def function(name: str, program: Program, made: Code) -> str:
    """The function of a program. A memory may be given and taken at one place."""
    ports = program.ports
    inputs = [one_row(port) for port in program.inputs]
    outputs = [
        one_row(ports[value])._replace(name=f"out_{word(n)}")
        for n, value in program.outputs.items()
    ]
    heads = [*parameters(inputs, True), *parameters(outputs, False), "void *workspace"]
    lines = [f"static inline void policy_{name}(", "    " + ",\n    ".join(heads) + ") {"]
    lines += ["  uint8_t *room = (uint8_t *)workspace;"] if made.rooms else ["  (void)workspace;"]
    for value, room in made.rooms.items():
        kind = TYPES[room.dtype]
        lines.append(f"  {kind} *{value} = ({kind} *)(void *)(room + {room.offset});")
    lines += ["  " + line for line in made.lines]
    for port, value in zip(outputs, program.outputs.values(), strict=True):
        source_name = word(made.aliases.get(value, value))
        size = int(np.prod(port.shape))
        lines.append(f"  memcpy({port.name}, {source_name}, {size} * sizeof({TYPES[port.dtype]}));")
    return "\n".join([*lines, "}"])
