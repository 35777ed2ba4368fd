"""The form js: policy.mjs, a plain module for browsers and node that needs nothing else.

It acts for one row; an object that `load()` gives has its own arrays, which a call works in.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from parl.deploy.export.c import COMPARED, INFIX
from parl.deploy.export.loops import Code, code, one_row, word
from parl.deploy.program import Operation, Program
from parl.deploy.shapes import Port

FILE = "policy.mjs"
ARRAYS = {
    "bool": "Uint8Array", "uint8": "Uint8Array", "int8": "Int8Array", "int16": "Int16Array",
    "uint16": "Uint16Array", "int32": "Int32Array", "uint32": "Uint32Array",
    "int64": "Float64Array", "float32": "Float32Array", "float64": "Float64Array",
}  # fmt: skip
MATH = {
    "floor": "floor", "ceil": "ceil", "exp": "exp", "log": "log", "log1p": "log1p",
    "expm1": "expm1", "tanh": "tanh", "sqrt": "sqrt", "sin": "sin", "cos": "cos", "abs": "abs",
    "sign": "sign", "pow": "pow", "max": "max", "min": "min",
}  # fmt: skip
LIMITS = {
    "int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "bool": (0, 1), "uint8": (0, 255),
    "int8": (-128, 127), "int16": (-32768, 32767), "uint16": (0, 65535),
}  # fmt: skip
HELPERS = """
const turns = [[13, 15, 26, 6], [17, 29, 16, 24]];

// Threefry-2x32 with 20 rounds, as jax.random has it.
function policy_threefry(key, high, low) {
  const keys = [key[0], key[1], (key[0] ^ key[1] ^ 0x1BD11BDA) >>> 0];
  let x = (high + keys[0]) >>> 0, y = (low + keys[1]) >>> 0;
  for (let i = 0; i < 5; i++) {
    for (const turn of turns[i % 2]) {
      x = (x + y) >>> 0;
      y = (((y << turn) | (y >>> (32 - turn))) ^ x) >>> 0;
    }
    x = (x + keys[(i + 1) % 3]) >>> 0;
    y = (y + keys[(i + 2) % 3] + i + 1) >>> 0;
  }
  return [x, y];
}

function policy_bits(out, key, count) {
  for (let i = 0; i < count; i++) { const [x, y] = policy_threefry(key, 0, i); out[i] = x ^ y; }
}

function policy_split(out, key, count) {
  for (let i = 0; i < count; i++) out.set(policy_threefry(key, 0, i), 2 * i);
}

function policy_fold_in(out, key, data) { out.set(policy_threefry(key, 0, data)); }

const scratch = new DataView(new ArrayBuffer(8));
function policy_float_of(bits) { scratch.setUint32(0, bits); return scratch.getFloat32(0); }
function policy_bits_of(x) { scratch.setFloat32(0, x); return scratch.getUint32(0); }

function policy_round(x) {
  const below = Math.floor(x), rest = x - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

function policy_polynomial(x, coefficients) {
  let sum = coefficients[0];
  for (let i = 1; i < coefficients.length; i++) sum = sum * x + coefficients[i];
  return sum;
}

const erf_above = [-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06,
  -5.69250639462346e-05, -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02];
const erf_below = [-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03,
  -7.37332916720468e-03, -1.42647390514189e-02];
function policy_erf(x) {
  x = Math.max(-4, Math.min(4, x));
  return x * policy_polynomial(x * x, erf_above) / policy_polynomial(x * x, erf_below);
}

// Giles 2010, "Approximating the erfinv function", single precision.
const erfinv_near = [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06,
  0.00021858087, -0.00125372503, -0.00417768164, 0.246640727, 1.50140941];
const erfinv_far = [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844,
  0.00573950773, -0.0076224613, 0.00943887047, 1.00167406, 2.83297682];
function policy_erfinv(x) {
  if (x === 1 || x === -1) return x * Infinity;
  const w = -Math.log1p(-x * x);
  return x * (w < 5 ? policy_polynomial(w - 2.5, erfinv_near)
    : policy_polynomial(Math.sqrt(w) - 3, erfinv_far));
}

function decoded(text, kind) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new kind(bytes.buffer);
}
"""
TAIL = """
// {act(inputs, memory, seed, step), start()}: inputs, memory and what comes back are by name.
// Greedy without a seed; with one actions are drawn, as by jax.random.fold_in(key(seed), step).
export function load() {
  const policies = Object.fromEntries(Object.entries(made).map(([name, make]) => [name, make()]));
  const key = new Uint32Array(2);
  return {
    start() {
      return Object.fromEntries(Object.entries(starts).map(([name, x]) => [name, [...x]]));
    },
    noise(seed, step) {
      policy_fold_in(key, [0, seed >>> 0], step);
      return policies.noise({ key });
    },
    run(name, inputs) { return policies[name](inputs); },
    act(inputs, memory = {}, seed = null, step = 0) {
      if (seed === null) return policies.greedy({ ...inputs, ...memory });
      if (!policies.sample) throw new Error("this policy was exported without --sample");
      return policies.sample({ ...inputs, ...memory, ...this.noise(seed, step) });
    },
  };
}
"""


class JavaScript:
    """How JavaScript writes loops."""

    name = "js"

    def loop(self, variable: str, count: int) -> str:
        return f"for (let {variable} = 0; {variable} < {count}; {variable}++)"

    def declared(self, kind: str, variable: str, value: str) -> str:
        return f"let {variable} = {value};"

    def lowest(self, dtype: str, sign: int) -> str:
        if dtype in LIMITS:
            return str(LIMITS[dtype][0 if sign > 0 else 1])
        return "-Infinity" if sign > 0 else "Infinity"

    def call(self, function: str, arguments: Sequence[str]) -> str:
        return f"{function}({', '.join(arguments)});"

    def expression(self, operation: Operation, dtype: str, arguments: Sequence[str]) -> str | None:
        kind, x, y = operation.kind, arguments[0], arguments[-1]
        is_float = dtype.startswith("float")
        if kind in COMPARED:
            return f"{x} {COMPARED[kind]} {y}"
        if kind == "mul" and dtype in ("int32", "uint32"):
            return f"Math.imul({x}, {y})"
        if kind in INFIX:
            return f"{x} {INFIX[kind]} {y}"
        if kind in MATH:
            return f"Math.{MATH[kind]}({', '.join(arguments)})"
        if kind == "convert":
            to = operation.output.dtype
            whole = is_float and not to.startswith("float")
            return f"{x} !== 0" if to == "bool" else f"Math.trunc({x})" if whole else x
        if kind == "bitcast":
            to = operation.output.dtype
            return {
                ("float32", "uint32"): f"policy_bits_of({x})",
                ("float32", "int32"): f"policy_bits_of({x})",
                ("uint32", "float32"): f"policy_float_of({x})",
                ("int32", "float32"): f"policy_float_of({x} >>> 0)",
                ("int32", "uint32"): x,
                ("uint32", "int32"): x,
            }.get((dtype, to))
        made = {
            "neg": f"-{x}",
            "not": f"1 - {x}" if dtype == "bool" else f"~{x}",
            "select": f"{x} ? {arguments[1 % len(arguments)]} : {y}",
            "round": f"policy_round({x})",
            "logistic": f"1 / (1 + Math.exp(-{x}))",
            "rsqrt": f"1 / Math.sqrt({x})",
            "is_finite": f"Number.isFinite({x})",
            "erf": f"policy_erf({x})",
            "erfinv": f"policy_erfinv({x})",
            "div": f"{x} / {y}" if is_float else f"{y} === 0 ? -1 : Math.trunc({x} / {y})",
            "rem": f"{x} % {y}" if is_float else f"{y} === 0 ? {x} : {x} % {y}",
        }
        if dtype == "uint32":
            made["shift_left"] = f"{y} > 31 ? 0 : {x} << {y}"
            made["shift_right"] = f"{y} > 31 ? 0 : {x} >>> {y}"
        return made.get(kind)


def write(place: Path, programs: dict[str, Program], start: dict[str, np.ndarray]) -> str:
    """Writes the form; its file's name. Raises UnsupportedOperation."""
    (place / FILE).write_text(source(programs, start))
    return FILE


def source(programs: dict[str, Program], start: dict[str, np.ndarray]) -> str:
    """The module of some programs."""
    made = {name: code(program, JavaScript()) for name, program in programs.items()}
    constants = {n: x for program in programs.values() for n, x in program.constants.items()}
    starts = {name: x.reshape(-1).astype(float).tolist() for name, x in start.items()}
    parts = [
        "// A policy that PARL exported; see README.md beside it.",
        HELPERS.strip(),
        f"const starts = {json.dumps(starts)};",
        *(constant(name, x) for name, x in constants.items()),
        "const made = {};",
        *(function(name, programs[name], each) for name, each in made.items()),
        TAIL.strip(),
    ]
    return "\n".join(parts) + "\n"


def constant(name: str, array: np.ndarray) -> str:
    """The numbers of a constant, in base 64."""
    kind = ARRAYS[array.dtype.name]
    flat = array.astype(np.float64) if array.dtype == np.int64 else array
    text = base64.b64encode(np.ascontiguousarray(flat).tobytes()).decode()
    return f'const {name} = decoded("{text}", {kind});'


def function(name: str, program: Program, made: Code) -> str:
    """The maker of a program's function, which has its arrays."""
    ports = program.ports
    inputs = [one_row(port) for port in program.inputs]
    lines = [f"made.{name} = () => {{"]
    lines += [f"  const {word(p.name)} = new {ARRAYS[p.dtype]}({size(p)});" for p in inputs]
    lines += [f"  const {v} = new {ARRAYS[r.dtype]}({r.count});" for v, r in made.rooms.items()]
    lines.append("  return (inputs) => {")
    lines += [f'    {word(p.name)}.set(inputs["{p.name}"]);' for p in inputs]
    lines += ["    " + line for line in made.lines]
    outputs = []
    for output, value in program.outputs.items():
        array = word(made.aliases.get(value, value))
        outputs.append(f'"{output}": {ARRAYS[ports[value].dtype]}.from({array})')
    lines += [f"    return {{ {', '.join(outputs)} }};", "  };", "};"]
    return "\n".join(lines)


def size(port: Port) -> int:
    """Numbers of a port."""
    return int(np.prod(port.shape))
