"""Every random stream of a run follows from one integer.

A run has three keys: for initial parameters, for acting and for learning. The loop that owns a
counter folds it in: acting by worker and time, learning by iteration. A run therefore does not
depend on scheduling, on how often it logs, or on which process did the work.
"""

from contextlib import suppress
from typing import NamedTuple

import jax
import numpy as np

from parl.core.threefry import threefry
from parl.core.types import Array

EVALUATION = 1_000_003  # keeps evaluation's environment seeds apart from all workers'


class RunKeys(NamedTuple):
    """The keys of one run, or of K runs with a leading axis."""

    init: Array
    act: Array
    learn: Array


def run_keys(seed: int | Array) -> RunKeys:
    """The keys of the run with this seed."""
    return RunKeys(*jax.random.split(jax.random.key(seed), 3))


def env_seed(*path: int) -> int:
    """A seed below 2**31 for an environment, e.g. of (run's seed, worker)."""
    return int(np.random.SeedSequence(path).generate_state(1)[0] >> 1)


def compile_draws_unrolled() -> None:
    """Has programs of this process draw on CPUs without a loop: the same bits, sooner.

    JAX compiles the hash behind all its draws to a loop there, of a hundred kernels for each draw.
    Unrolled it is part of one kernel. PPO compiles sooner, what draws in many places, as noisy
    networks do, later. A JAX that has no such place to say so draws as it did.
    """
    with suppress(ImportError, AttributeError):
        from jax.extend.core.primitives import threefry2x32_p
        from jax.interpreters import mlir

        hashed = jax.jit(lambda first, second, high, low: threefry((first, second), high, low))
        lowering = mlir.lower_fun(hashed, multiple_results=True)
        mlir.register_lowering(threefry2x32_p, lowering, platform="cpu")


compile_draws_unrolled()
