"""Statistics of the episodes that ended during collection."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from parl.core.types import Array

EXACT_UNIT = 2.0**-24  # of float32 sums of returns: exact, and sums of the largest stay finite


class Ended(NamedTuple):
    """Sums and extremes over episodes; arrays have the leading axes of the seeds, () or [K]."""

    count: Any  # how many ended
    return_sum: Any  # of several agents' returns the sum counts
    return_min: Any  # infinity where none ended
    return_max: Any
    length_sum: Any  # steps
    info_sum: Any  # [..., names] of what they told last under each name that is logged
    info_count: Any  # [..., names] how many told it


def ended(returns: Array, lengths: Array, last: Array) -> Ended:
    """The statistics of steps [T, B], as jax arrays; `return_sum` is scaled."""
    finished = jnp.where(last, returns, 0.0)
    return Ended(
        last.sum(),
        (EXACT_UNIT * finished).sum(),
        jnp.where(last, returns, jnp.inf).min(),
        jnp.where(last, returns, -jnp.inf).max(),
        jnp.where(last, lengths, 0).sum(),
        jnp.zeros(0),
        jnp.zeros(0, jnp.int32),
    )


def both(one: Ended, other: Ended) -> Ended:
    """The statistics of both, of jax or numpy arrays."""
    low: Any = jnp.minimum
    high: Any = jnp.maximum
    if isinstance(one.return_min, np.ndarray | np.generic):
        low, high = np.minimum, np.maximum
    return Ended(
        one.count + other.count,
        one.return_sum + other.return_sum,
        low(one.return_min, other.return_min),
        high(one.return_max, other.return_max),
        one.length_sum + other.length_sum,
        one.info_sum + other.info_sum,
        one.info_count + other.info_count,
    )


def nothing(lead: tuple[int, ...] = (), names: int = 0) -> Ended:
    """The statistics of no episodes, as numpy arrays."""
    whole = lambda *axes: np.zeros((*lead, *axes), np.int64)
    real = lambda value, *axes: np.full((*lead, *axes), value)
    return Ended(
        whole(),
        real(0.0),
        real(np.inf),
        real(-np.inf),
        whole(),
        real(0.0, names),
        whole(names),
    )


def total(parts: Sequence[Ended]) -> Ended:
    """The statistics of all parts, of which there is at least one."""
    result = parts[0]
    for part in parts[1:]:
        result = both(result, part)
    return result


def unscaled(ended: Ended) -> Ended:
    """The statistics of a program as numpy arrays, with returns in float64."""
    arrays = Ended(*map(np.asarray, ended))
    return arrays._replace(return_sum=np.float64(arrays.return_sum) / EXACT_UNIT)
