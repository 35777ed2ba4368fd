"""What each kind of equation of a jaxpr becomes in a program: a function each, and their table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from parl.deploy.avals import Missing, dtype_of, opened, shape_of, size_of

if TYPE_CHECKING:
    from parl.deploy.trace import Tracer

LONGEST = 64  # steps of a loop that is unrolled
Lowering = Callable[["Tracer", Any, list[str]], Any]  # equation, inputs -> output or outputs


def plain(kind: str) -> Lowering:
    """An elementwise operation of the same meaning."""
    return lambda t, e, x: t.add(kind, *x)


def reduction(kind: str) -> Lowering:
    """A reduction over axes."""
    return lambda t, e, x: t.add(kind, x[0], axes=tuple(e.params["axes"]))


def arg(kind: str) -> Lowering:
    """The place of the largest or smallest number."""

    def lower(t: Tracer, e: Any, x: list[str]) -> str:
        (axis,) = e.params["axes"]
        return t.fit(e, t.add(kind, x[0], axis=axis))

    return lower


def in_shape(t: Tracer, e: Any, x: list[str]) -> str:
    """The same numbers in another shape."""
    return t.reshape(x[0], shape_of(e.outvars[0].aval))


def identity(t: Tracer, e: Any, x: list[str]) -> list[str]:
    """What is given."""
    return x


def power(t: Tracer, e: Any, x: list[str]) -> str:
    """x^y for an integer y, by squaring."""
    y, result, square = abs(e.params["y"]), None, x[0]
    while y:
        if y & 1:
            result = square if result is None else t.add("mul", result, square)
        y >>= 1
        square = t.add("mul", square, square) if y else square
    one = t.number(1, x[0])
    if result is None:
        return t.fit(e, one)
    return t.add("div", one, result) if e.params["y"] < 0 else result


def select_n(t: Tracer, e: Any, x: list[str]) -> str:
    """One of several values, by a flag or a number."""
    which, *cases = x
    if t.ports[which].dtype == "bool":
        return t.fit(e, t.add("select", which, cases[1], cases[0]))
    result = cases[-1]
    for i in range(len(cases) - 2, -1, -1):
        result = t.add("select", t.add("le", which, t.number(i, which)), cases[i], result)
    return t.fit(e, result)


def clamp(t: Tracer, e: Any, x: list[str]) -> str:
    """Within two bounds."""
    return t.fit(e, t.add("min", t.add("max", x[1], x[0]), x[2]))


def broadcast_in_dim(t: Tracer, e: Any, x: list[str]) -> str:
    """Repeated along axes that are new or of size 1."""
    shape, old = shape_of(e.outvars[0].aval), t.ports[x[0]].shape
    wide = [1] * len(shape)
    kept = list(e.params["broadcast_dimensions"])
    kept += [len(shape) - 1] * (len(old) - len(kept))  # the numbers of a key
    for axis, size in zip(kept, old, strict=True):
        wide[axis] = size
    return t.add("broadcast", t.reshape(x[0], tuple(wide)), shape=shape)


def cut(t: Tracer, x: str, starts: Any, sizes: Any, steps: Any = None) -> str:
    """A slice on every axis."""
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        full = t.ports[x].shape[axis]
        step = steps[axis] if steps else 1
        if (start, size, step) == (0, full, 1):
            continue
        if full < 0 or size < 0:
            raise Missing
        t_limit = start + size
        x = t.add("slice", x, axis=axis, start=int(start), limit=int(t_limit), step=int(step))
    return x


def slice_(t: Tracer, e: Any, x: list[str]) -> str:
    """A slice of known bounds."""
    limits = list(map(size_of, e.params["limit_indices"]))
    starts = list(map(size_of, e.params["start_indices"]))
    sizes = [b - a for a, b in zip(starts, limits, strict=True)]
    steps = e.params["strides"] or [1] * len(sizes)
    rest = t.ports[x[0]].shape[len(sizes) :]  # the numbers of a key
    return cut(t, x[0], [*starts, *[0] * len(rest)], [*sizes, *rest], [*steps, *[1] * len(rest)])


def known(t: Tracer, name: str) -> np.ndarray:
    """The number of a constant."""
    if name not in t.builder.constants:
        raise Missing
    return t.builder.constants[name]


def dynamic_slice(t: Tracer, e: Any, x: list[str]) -> str:
    """A slice whose start is a constant."""
    sizes = list(map(size_of, e.params["slice_sizes"]))
    full = t.ports[x[0]].shape
    most = [a - b if a >= 0 else 0 for a, b in zip(full, sizes, strict=False)]
    starts = [int(np.clip(known(t, s), 0, m)) for s, m in zip(x[1:], most, strict=True)]
    rest = full[len(sizes) :]
    return cut(t, x[0], [*starts, *[0] * len(rest)], [*sizes, *rest])


def split(t: Tracer, e: Any, x: list[str]) -> list[str]:
    """Parts along an axis."""
    axis, start, parts = e.params["axis"], 0, []
    for size in map(size_of, e.params["sizes"]):
        parts.append(t.add("slice", x[0], axis=axis, start=start, limit=start + size, step=1))
        start += size
    return parts


def stacked(t: Tracer, e: Any, x: list[str]) -> str:
    """Arrays side by side along a new axis."""
    axis = e.params["axis"]
    wide = lambda shape: (*shape[:axis], 1, *shape[axis:])
    return t.add("concatenate", *(t.reshape(n, wide(t.ports[n].shape)) for n in x), axis=axis)


def unstacked(t: Tracer, e: Any, x: list[str]) -> list[str]:
    """The parts along an axis, without it."""
    axis = e.params["axis"]
    cuts = [
        t.add("slice", x[0], axis=axis, start=i, limit=i + 1, step=1) for i in range(len(e.outvars))
    ]
    return [t.reshape(cut, shape_of(v.aval)) for cut, v in zip(cuts, e.outvars, strict=True)]


def reverse(t: Tracer, e: Any, x: list[str]) -> str:
    """Backwards along some axes."""
    result = x[0]
    for axis in e.params["dimensions"]:
        index = t.builder.constant(np.arange(t.ports[result].shape[axis], dtype=np.int32)[::-1])
        result = t.add("take", result, index, axis=axis)
    return result


def pad(t: Tracer, e: Any, x: list[str]) -> str:
    """With a number around, or less where a pad is negative."""
    config = e.params["padding_config"]
    if any(inner for _, _, inner in config):
        raise Missing
    low, high, _ = zip(*config, strict=True)
    low, high = (list(map(int, numbers)) for numbers in (low, high))
    result = t.add("pad", *x, low=[max(n, 0) for n in low], high=[max(n, 0) for n in high])
    starts = [max(-n, 0) for n in low]
    return cut(t, result, starts, shape_of(e.outvars[0].aval))


def iota(t: Tracer, e: Any, x: list[str]) -> str:
    """0, 1, 2, ... along an axis of known size."""
    shape, axis = shape_of(e.outvars[0].aval), e.params["dimension"]
    if shape[axis] < 0:
        raise Missing
    wide = [shape[axis] if i == axis else 1 for i in range(len(shape))]
    numbers = np.arange(shape[axis]).astype(dtype_of(e.outvars[0].aval)).reshape(wide)
    return t.add("broadcast", t.builder.constant(numbers), shape=shape)


def cumulative(t: Tracer, e: Any, x: list[str]) -> str:
    """Sums so far."""
    if e.params["reverse"]:
        raise Missing
    return t.add("cumsum", x[0], axis=e.params["axis"])


def dot_general(t: Tracer, e: Any, x: list[str]) -> str:
    """A product as one of matrices: [batch, free, contracted] x [batch, contracted, free]."""
    (inner, batch), ranks = e.params["dimension_numbers"], [len(t.ports[n].shape) for n in x]
    free = [
        [i for i in range(rank) if i not in (*inner[k], *batch[k])] for k, rank in enumerate(ranks)
    ]
    left, right = x
    left = t.add("transpose", left, axes=(*batch[0], *free[0], *inner[0]))
    right = t.add("transpose", right, axes=(*batch[1], *inner[1], *free[1]))
    of = lambda k, axes: [t.ports[x[k]].shape[i] for i in axes]
    product = lambda sizes: int(np.prod(sizes, dtype=np.int64))
    lead, contracted = of(0, batch[0]), product(of(0, inner[0]))
    left = t.reshape(left, (*lead, product(of(0, free[0])), contracted))
    right = t.reshape(right, (*lead, contracted, product(of(1, free[1]))))
    result = t.add("matmul", left, right)
    return t.fit(e, t.reshape(result, (*lead, *of(0, free[0]), *of(1, free[1]))))


def convolution(t: Tracer, e: Any, x: list[str]) -> str:
    """A convolution of one or two spatial axes, as one of images [B, H, W, C]."""
    p, (lhs, rhs, out) = e.params, e.params["dimension_numbers"]
    axes = len(lhs) - 2
    if axes not in (1, 2) or p["batch_group_count"] != 1 or set(p["lhs_dilation"]) != {1}:
        raise Missing
    image = t.add("transpose", x[0], axes=(lhs[0], *lhs[2:], lhs[1]))
    kernel = t.add("transpose", x[1], axes=(*rhs[2:], rhs[1], rhs[0]))
    strides, dilation = list(p["window_strides"]), list(p["rhs_dilation"])
    low, high = ([int(pair[i]) for pair in p["padding"]] for i in range(2))
    if axes == 1:
        image = t.reshape(image, (t.ports[image].shape[0], 1, *t.ports[image].shape[1:]))
        kernel = t.reshape(kernel, (1, *t.ports[kernel].shape))
        strides, dilation, low, high = [1, *strides], [1, *dilation], [0, *low], [0, *high]
    groups = p["feature_group_count"]
    how = {"low": low, "high": high, "strides": strides, "dilation": dilation, "groups": groups}
    result = t.add("conv", image, kernel, **how)
    if axes == 1:
        shape = t.ports[result].shape
        result = t.reshape(result, (shape[0], *shape[2:]))
    order = [out[0], *out[2:], out[1]]  # where each axis of [B, ..., C] goes
    return t.add("transpose", result, axes=[order.index(i) for i in range(len(order))])


def gather(t: Tracer, e: Any, x: list[str]) -> str:
    """One slice at a place that is known, or the entries of one axis at any index."""
    numbers, (operand, indices) = e.params["dimension_numbers"], x
    full, sizes = t.ports[operand].shape, list(map(size_of, e.params["slice_sizes"]))
    sizes += full[len(sizes) :]  # the numbers of a key
    shape = shape_of(e.outvars[0].aval)
    if numbers.operand_batching_dims:
        raise Missing
    if indices in t.builder.constants and len(t.ports[indices].shape) == 1:
        starts = [0] * len(full)
        for axis, value in zip(numbers.start_index_map, known(t, indices), strict=True):
            limit = full[axis] - sizes[axis] if full[axis] >= 0 else 0
            starts[axis] = int(np.clip(value, 0, limit))
        return t.reshape(cut(t, operand, starts, sizes), shape)
    axes = numbers.start_index_map
    rest = [size == full[i] for i, size in enumerate(sizes) if i not in axes]
    if len(axes) != 1 or tuple(numbers.collapsed_slice_dims) != tuple(axes) or not all(rest):
        raise Missing
    lead = t.ports[indices].shape[:-1]
    result = t.add("take", operand, t.reshape(indices, lead), axis=axes[0])
    here = range(axes[0], axes[0] + len(lead))  # axes of the index in what was taken
    others = iter(i for i in range(len(shape)) if i not in here)
    of_index = iter(here)
    order = [
        next(others) if i in numbers.offset_dims else next(of_index) for i in range(len(shape))
    ]
    return t.add("transpose", result, axes=order)


def scan(t: Tracer, e: Any, x: list[str]) -> list[str]:
    """A loop of few steps, one after the other."""
    p = e.params
    if p["length"] > LONGEST:
        raise Missing
    consts, carry = x[: p["num_consts"]], x[p["num_consts"] :][: p["num_carry"]]
    columns = x[p["num_consts"] + p["num_carry"] :]
    steps = range(p["length"])
    collected: list[list[str]] = []
    for i in reversed(steps) if p["reverse"] else steps:
        rows = []
        for name in columns:
            shape = t.ports[name].shape
            rows.append(
                t.reshape(cut(t, name, [i, *[0] * len(shape[1:])], [1, *shape[1:]]), shape[1:])
            )
        results = t.run(*opened(p["jaxpr"]), [*consts, *carry, *rows])
        carry = results[: p["num_carry"]]
        collected.append(results[p["num_carry"] :])
    if p["reverse"]:
        collected.reverse()
    wide = lambda name: t.reshape(name, (1, *t.ports[name].shape))
    stack = lambda parts: (
        t.add("concatenate", *map(wide, parts), axis=0) if parts[1:] else wide(parts[0])
    )
    return [*carry, *(stack(parts) for parts in zip(*collected, strict=True))]


def cond(t: Tracer, e: Any, x: list[str]) -> list[str]:
    """All branches, and then a choice; the one branch where it is known which."""
    which, *arguments = x
    branches = e.params["branches"]
    if which in t.builder.constants:
        index = int(np.clip(known(t, which), 0, len(branches) - 1))
        return t.run(*opened(branches[index]), arguments)
    results = [t.run(*opened(branch), arguments) for branch in branches]
    chosen = results[-1]
    for i in range(len(branches) - 2, -1, -1):
        here = t.add("le", which, t.number(i, which))
        chosen = [t.add("select", here, *pair) for pair in zip(results[i], chosen, strict=True)]
    return chosen


def random_seed(t: Tracer, e: Any, x: list[str]) -> str:
    """The key of a seed."""
    seed = int(known(t, x[0]))
    return t.builder.constant(np.array([0, seed & 0xFFFFFFFF], np.uint32))


def random_split(t: Tracer, e: Any, x: list[str]) -> str:
    """Keys of a key."""
    return t.add("key_split", x[0], shape=tuple(map(size_of, e.params["shape"])))


def random_fold_in(t: Tracer, e: Any, x: list[str]) -> str:
    """A key of a key and a number."""
    data = x[1]
    if t.ports[data].dtype == "int32":
        data = t.add("bitcast", data, dtype="uint32")
    return t.add("key_fold_in", x[0], data)


def random_bits(t: Tracer, e: Any, x: list[str]) -> str:
    """32 random bits each."""
    if e.params["bit_width"] != 32:
        raise Missing
    return t.add("random_bits", x[0], shape=tuple(map(size_of, e.params["shape"])))


def nearest(t: Tracer, e: Any, x: list[str]) -> str:
    """The nearest integer, of two as near the even one."""
    if e.params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise Missing
    return t.add("round", x[0])


def times(factor: float, kind: str) -> Lowering:
    """A function of the number times a factor."""
    return lambda t, e, x: t.add(kind, t.add("mul", x[0], t.number(factor, x[0])))


INLINED = {  # calls, and where their jaxpr is
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
SAME = {  # by other names in jaxprs
    "is_finite": "is_finite",
    "erf_inv": "erfinv",
    "shift_right_logical": "shift_right",
}
NAMES = (
    "neg", "abs", "sign", "floor", "ceil", "exp", "log", "log1p", "expm1", "tanh", "logistic",
    "sqrt", "rsqrt", "sin", "cos", "erf", "not", "add", "sub", "mul", "div", "rem", "max", "min",
    "and", "or", "xor", "shift_left", "eq", "ne", "lt", "le", "gt", "ge",
)  # fmt: skip
LOWERINGS: dict[str, Lowering] = {
    **{name: plain(name) for name in NAMES},
    **{name: plain(kind) for name, kind in SAME.items()},
    "round": nearest,
    "pow": lambda t, e, x: t.add("pow", x[0], t.add("convert", x[1], dtype=t.ports[x[0]].dtype)),
    "square": lambda t, e, x: t.add("mul", x[0], x[0]),
    "integer_pow": power,
    "exp2": times(float(np.log(2)), "exp"),
    "erfc": lambda t, e, x: t.add("sub", t.number(1, x[0]), t.add("erf", x[0])),
    "select_n": select_n,
    "clamp": clamp,
    "convert_element_type": lambda t, e, x: t.add(
        "convert", x[0], dtype=dtype_of(e.outvars[0].aval)
    ),
    "bitcast_convert_type": lambda t, e, x: t.add(
        "bitcast", x[0], dtype=dtype_of(e.outvars[0].aval)
    ),
    "reshape": in_shape,
    "squeeze": in_shape,
    "expand_dims": in_shape,
    "broadcast_in_dim": broadcast_in_dim,
    "transpose": lambda t, e, x: t.add("transpose", x[0], axes=tuple(e.params["permutation"])),
    "slice": slice_,
    "dynamic_slice": dynamic_slice,
    "split": split,
    "stack": stacked,
    "unstack": unstacked,
    "rev": reverse,
    "pad": pad,
    "concatenate": lambda t, e, x: t.add("concatenate", *x, axis=e.params["dimension"]),
    "iota": iota,
    "reduce_sum": reduction("sum"),
    "reduce_prod": reduction("prod"),
    "reduce_max": reduction("reduce_max"),
    "reduce_min": reduction("reduce_min"),
    "reduce_and": reduction("all"),
    "reduce_or": reduction("any"),
    "argmax": arg("argmax"),
    "argmin": arg("argmin"),
    "cumsum": cumulative,
    "dot_general": dot_general,
    "conv_general_dilated": convolution,
    "gather": gather,
    "scan": scan,
    "cond": cond,
    **dict.fromkeys(("copy", "copy_p", "stop_gradient", "optimization_barrier"), identity),
    **dict.fromkeys(("random_wrap", "random_unwrap", "sharding_constraint", "name"), identity),
    "random_seed": random_seed,
    "random_split": random_split,
    "random_fold_in": random_fold_in,
    "random_bits": random_bits,
}
