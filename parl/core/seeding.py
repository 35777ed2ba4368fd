"""Every random stream of a run follows from one integer.

A run has three keys: for initial parameters, for acting and for learning. The loop that owns a
counter folds it in: acting by worker and time, learning by iteration. A run therefore does not
depend on scheduling, on how often it logs, or on which process did the work.
"""

from typing import NamedTuple

import jax
import numpy as np

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
