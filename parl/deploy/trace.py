"""From a jaxpr, which is what JAX traces of a function, to a Program.

A jaxpr whose batch is the symbol b; calls are inlined, loops of a fixed number of steps unrolled.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend import core as jax_core

from parl.deploy.avals import Missing, dtype_of, opened, shape_of
from parl.deploy.builder import Builder
from parl.deploy.lowerings import INLINED, LOWERINGS
from parl.deploy.shapes import Shape


class Tracer:
    """Reads jaxprs into a builder."""

    def __init__(self, builder: Builder):
        self.builder, self.add, self.ports = builder, builder.add, builder.ports

    def run(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[str]) -> list[str]:
        """The results of a jaxpr on values of these names."""
        names: dict[Any, str] = {}
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            names[var] = value if isinstance(value, str) else self.builder.constant(value)
        names |= dict(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> str:
            if isinstance(atom, jax_core.Literal):
                return self.builder.constant(np.asarray(atom.val, dtype_of(atom.aval)))
            return names[atom]

        for equation in jaxpr.eqns:
            results = self.lowered(equation, [read(atom) for atom in equation.invars])
            names |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def lowered(self, equation: Any, inputs: list[str]) -> list[str]:
        """The results of one equation; of one that programs do not have, a note of that."""
        name = equation.primitive.name
        lowering = LOWERINGS.get(name)
        spoiled = next((x for x in inputs if self.builder.is_unknown(x)), None)
        if spoiled is None:
            try:
                if name in INLINED:
                    inner = equation.params[INLINED[name]]
                    return self.run(*opened(inner), inputs)
                if lowering is not None:
                    results = lowering(self, equation, inputs)
                    return [results] if isinstance(results, str) else list(results)
            except (ValueError, Missing):
                pass  # it stays unknown, and is named in an error if the action needs it
        kind = name if lowering is None else f"{name} {equation.params}"[:150]
        if spoiled is not None:
            kind = self.builder.operations[spoiled].kind[1:]
        ports = [(shape_of(var.aval), dtype_of(var.aval)) for var in equation.outvars]
        return [self.builder.unknown(kind, *port) for port in ports]

    def fit(self, equation: Any, name: str) -> str:
        """A value in the shape and dtype that an equation gives."""
        aval = equation.outvars[0].aval
        name = self.add("broadcast", name, shape=shape_of(aval))
        return self.add("convert", name, dtype=dtype_of(aval))

    def reshape(self, x: str, shape: Shape) -> str:
        return self.add("reshape", x, shape=shape)

    def number(self, value: Any, like: str) -> str:
        """A constant [] of the dtype of another value."""
        return self.builder.constant(np.asarray(value, self.ports[like].dtype))
