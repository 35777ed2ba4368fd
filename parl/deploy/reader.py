"""Brings parts of an environment's observations to what networks see."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from parl.core.errors import ArtefactError
from parl.deploy.contract import Leaf


class Reader:
    """Brings one part of the environment's observations to what networks see."""

    def __init__(self, leaf: Leaf):
        self.leaf, self.dtype = leaf, np.dtype(leaf.dtype)
        self.rank, self.whole = len(leaf.own_shape), self.dtype.kind in "iu"
        self.plain = leaf.shape == leaf.own_shape and leaf.counts is None and leaf.scale == 1

    def __call__(self, value: Any) -> tuple[np.ndarray, bool]:
        """(the array [B, *shape], whether one observation was given). Raises ArtefactError."""
        value = self.array(value)
        kind = value.dtype.kind
        if kind not in "biuf":
            raise self.error("it is not made of numbers")
        single = value.ndim == self.rank
        value = value[None] if single else value
        if value.shape[1:] != self.leaf.own_shape:
            shape = value.shape[1:] if single else value.shape
            own = self.leaf.own_shape
            raise self.error(f"its shape is {shape} instead of {own}, or {('B', *own)} of a batch")
        if self.plain and not self.whole and self.dtype.kind == "f":
            with np.errstate(over="ignore"):
                value = value.astype(self.dtype, copy=False)
            return self.finite(value), single
        return self.fitted(self.finite(value) if kind == "f" else value), single

    def array(self, value: Any) -> np.ndarray:
        """The array of a value. Raises ArtefactError where there is none."""
        try:
            return np.asarray(value)
        except (ValueError, TypeError) as error:
            raise self.error(f"it is no array of numbers: {error}") from error

    def finite(self, value: np.ndarray) -> np.ndarray:
        """Numbers unchanged. Raises ArtefactError where they are NaN or infinite."""
        if not (math.isfinite(np.vdot(value, value)) or np.isfinite(value).all()):
            raise self.error(f"it has NaN or infinity, or more than a {self.dtype} can be")
        return value

    def fitted(self, value: np.ndarray) -> np.ndarray:
        """Numbers as networks see them. Raises ArtefactError for those that cannot be."""
        leaf = self.leaf
        if leaf.counts is not None:
            value = value - leaf.shift
            if ((value < 0) | (value >= leaf.counts)).any():
                raise self.error("it holds a choice that there is not")
        with np.errstate(all="ignore"):
            array = value.astype(self.dtype)
        if self.dtype.kind != "f" and (array != value).any():
            raise self.error(f"it holds numbers that are no {self.dtype}")
        if leaf.scale != 1:
            array = array * self.dtype.type(leaf.scale)
        return array.reshape(len(array), *leaf.shape)

    def error(self, reason: str) -> ArtefactError:
        """The error for an observation that does not fit."""
        return unfit(self.leaf, reason)


def found(leaf: Leaf, obs: Any, info: Any) -> Any:
    """The part of an observation, or of the `info`, that a leaf is. Raises ArtefactError."""
    source, value = leaf.source, obs
    if source[:1] == ("info",) and leaf.name == "obs.legal" and len(source) == 2:
        source, value = source[1:], info
    for key in source:
        inside = isinstance(value, Mapping) or (
            isinstance(value, tuple | list) and isinstance(key, int)
        )
        try:
            if not inside:
                raise KeyError(key)
            value = value[key]
        except (KeyError, IndexError) as error:
            raise unfit(leaf, f"{'/'.join(map(str, leaf.source))} is not in it") from error
    return value


def unfit(leaf: Leaf, reason: str) -> ArtefactError:
    """The error for an observation that does not fit."""
    return ArtefactError(f"not an observation of this policy: {leaf.name}: {reason}.")
