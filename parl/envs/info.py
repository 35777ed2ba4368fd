"""Numbers in Gymnasium's `info`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def number_in(info: Any, name: str) -> float | None:
    """The number called `name` in an info, or None.

    A name such as episode/r refers to a nested entry. For infos by agent it is the mean over the
    agents that have it. A bool counts as 0 or 1.
    """
    if not isinstance(info, Mapping):
        return None
    if name in info:
        return as_number(info[name])
    head, _, rest = name.partition("/")
    if rest and head in info:
        return number_in(info[head], rest)
    told = [as_number(part[name]) for part in info.values() if has(part, name)]
    known = [x for x in told if x is not None]
    return sum(known) / len(known) if known else None


def has(part: Any, name: str) -> bool:
    """Whether a part of an info is a mapping with this name."""
    return isinstance(part, Mapping) and name in part


def as_number(value: Any) -> float | None:
    """A single number as a float, None for anything else."""
    if isinstance(value, bool | int | float):
        return float(value)
    if (
        isinstance(value, np.ndarray | np.generic)
        and value.size == 1
        and value.dtype.kind in "biuf"
    ):
        return float(value.item())
    return None


def mean_told(total: np.ndarray, count: np.ndarray) -> Any:
    """Means [...] as numbers or lists, None where the count is 0."""
    means = np.asarray(total / np.maximum(count, 1)).astype(object)
    means[np.asarray(count) == 0] = None
    return means.tolist()


class LastNumbers:
    """The last value of some info entries in each environment's current episode."""

    def __init__(self, names: Sequence[str], shape: tuple[int, ...]):
        self.names = tuple(names)
        self.values = np.full((*shape, len(self.names)), np.nan)  # [*shape, names]

    def see(self, infos: Sequence[Any], *lead: int) -> None:
        """Records one info per environment; `lead` is the seed's index, if there are several."""
        for j, name in enumerate(self.names):
            for i, info in enumerate(infos):
                told = number_in(info, name)
                if told is not None:
                    self.values[(*lead, i, j)] = told

    def forget(self, ended: np.ndarray) -> None:
        """Clears the values of the environments [*shape] whose episodes ended."""
        if self.names:
            self.values[ended] = np.nan
