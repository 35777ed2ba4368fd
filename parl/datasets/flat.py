"""D4RL's files: the steps of all episodes in a row, with `terminals` and `timeouts`."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from parl.core.errors import DataError
from parl.datasets.episode import Episode
from parl.datasets.hdf5 import lacking


def is_flat(file: Any) -> bool:
    """Whether a file has this layout."""
    return {"observations", "actions", "rewards"} <= set(file)


def read_flat(file: Any, where: str) -> Iterator[Episode]:
    """The episodes of a file, one after the other.

    Where an episode was cut and no `next_observations` are stored, what followed its last action is
    not known: that step is left out. What followed a terminal step counts for nothing, and its own
    observation stands there. Raises DataError if it cannot be told where episodes end.
    """
    if "terminals" not in file:
        raise lacking(where, "terminals")
    known = "next_observations" in file
    if "timeouts" not in file and not known:
        raise DataError(
            f"{where} has neither timeouts nor next_observations: where its episodes were cut "
            "cannot be told."
        )
    rewards = file["rewards"][()].reshape(-1)
    terminated = file["terminals"][()].reshape(-1).astype(bool)
    cut = file["timeouts"][()].reshape(-1).astype(bool) if "timeouts" in file else jumps(file)
    if not len(rewards) == len(terminated) == len(cut) == len(first_leaf(file["observations"])):
        raise DataError(f"{where} has arrays of different lengths: it is cut off.")
    ends = np.flatnonzero(terminated | cut) + 1
    bounds = sorted({0, *ends.tolist(), len(rewards)})
    for start, end in pairwise(bounds):
        keeps = known or terminated[end - 1]
        stop = end if keeps else end - 1
        if stop <= start:
            continue
        obs = sliced(file["observations"], start, end)
        if keeps:
            after = file["next_observations" if known else "observations"]
            obs = both(obs, sliced(after, end - 1, end))
        flags = terminated[start:stop], cut[start:stop] & ~terminated[start:stop]
        yield Episode(obs, file["actions"][start:stop], rewards[start:stop], *flags)


def jumps(file: Any) -> np.ndarray:
    """[n] bool: steps whose next observation is not the one that is recorded next."""
    here, after = file["observations"][()], file["next_observations"][()]
    differs = (after[:-1] != here[1:]).reshape(len(here) - 1, -1).any(-1)
    return np.append(differs, True)


def first_leaf(part: Any) -> Any:
    """The first data set in a group, or this one."""
    while hasattr(part, "keys"):
        part = part[sorted(part)[0]]
    return part


def sliced(part: Any, start: int, stop: int) -> Any:
    """The rows of an array, or of all in a group."""
    if hasattr(part, "keys"):
        return {key: sliced(part[key], start, stop) for key in sorted(part)}
    return part[start:stop]


def both(one: Any, other: Any) -> Any:
    """Rows of two trees, one after the other."""
    if isinstance(one, dict):
        return {key: both(one[key], other[key]) for key in one}
    return np.concatenate([one, other])
