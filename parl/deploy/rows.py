"""Sequences of observations that policies are compared on."""

from typing import Any, NamedTuple

import numpy as np


class Rows(NamedTuple):
    """Sequences of observations; each is acted on with what was remembered so far."""

    obs: dict[str, np.ndarray]  # [T, B, ...] by name
    first: np.ndarray  # [T, B] bool, where memory starts anew
    memory: dict[str, np.ndarray]  # [B, ...] before the first step, by name
    scale: np.ndarray  # [B] how large numbers may be in there, at least 1: errors grow with it


def forgotten(memory: Any, start: Any, first: np.ndarray) -> dict[str, np.ndarray]:
    """Memory [B, ...], that of a start where an episode opens."""
    wide = lambda x: first.reshape(-1, *[1] * (x.ndim - 1))
    return {name: np.where(wide(x), start[name], x) for name, x in memory.items()}
