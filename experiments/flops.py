"""Floating-point operations of learning, counted in the traced program: matmuls and convolutions.

Nothing is compiled or run. Additions beside the matmuls are left out, as is usual.
"""

import math
from typing import Any

import jax

from parl.agents.learner import example_rollout
from parl.runs.build import Parts


def gflop_per_step(parts: Parts) -> float:
    """GFLOP of learning for one environment step of one seed, what acting costs left out."""
    learner, spec, recipe = parts.learner, parts.factory.spec, parts.recipe
    algorithm, key = learner.algorithm, jax.random.key(0)
    rollout = None

    def start(key: Any) -> Any:
        nonlocal rollout
        train = algorithm.init(key, spec)
        rollout = example_rollout(algorithm, train, spec, recipe.length, recipe.num_envs)
        return learner.init(train, rollout)

    state = jax.eval_shape(start, key)
    program = jax.make_jaxpr(learner.learn)(state, rollout, key).jaxpr
    period = recipe.settings().get("policy_period", 1)
    return flops(program, period) / (recipe.length * recipe.num_envs) / 1e9


def flops(program: Any, period: int = 1) -> float:
    """Operations of a jaxpr; the dearer side of a branch is taken once in `period` times."""
    total = 0.0
    for equation in program.eqns:
        name, inside = equation.primitive.name, list(jaxprs_of(equation.params))
        if name == "dot_general":
            total += dot(equation)
        elif name == "conv_general_dilated":
            kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
            features = equation.params["dimension_numbers"].rhs_spec[0]
            total += 2 * math.prod(out) * math.prod(kernel) / kernel[features]
        elif name == "cond":
            sides = sorted(flops(side, period) for side in inside)
            total += sides[0] + (sides[-1] - sides[0]) / period
        else:
            repeats = equation.params["length"] if name == "scan" else 1
            total += repeats * sum(flops(part, period) for part in inside)
    return total


def dot(equation: Any) -> float:
    """Multiplications and additions of a dot_general: two for each term of each output."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def jaxprs_of(params: dict[str, Any]) -> Any:
    """The programs within an equation, such as the body of a loop."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)  # a closed one
            if hasattr(part, "eqns"):
                yield part
