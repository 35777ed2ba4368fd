"""Exact arrays of numbers in JSON, including infinities, which JSON lacks."""

from typing import Any

import numpy as np

WORDS = {float("inf"): "inf", float("-inf"): "-inf"}


def to_json(bound: Any) -> Any:
    """One number if all are equal, else nested lists; infinities become words."""
    array = np.asarray(bound)
    if array.size and (array == array.flat[0]).all():
        return word(array.reshape(-1)[:1].tolist()[0])
    return nested(array.tolist())


def nested(value: Any) -> Any:
    """Nested lists of numbers with words for infinities."""
    return [nested(part) for part in value] if isinstance(value, list) else word(value)


def word(value: float) -> float | str:
    """A finite number unchanged; an infinite one as its word."""
    return WORDS.get(value, value)


def from_json(value: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The array [*shape] that `to_json` wrote. Raises TypeError or ValueError otherwise."""
    dtype = np.dtype(dtype)
    plain = np.array(numbered(value))
    if plain.dtype.kind not in "biuf" or (plain.dtype.kind == "f" and np.isnan(plain).any()):
        raise ValueError(f"{value!r} are not numbers")
    return np.array(np.broadcast_to(plain.astype(dtype), shape))


def numbered(value: Any) -> Any:
    """The inverse of `nested`."""
    if isinstance(value, list):
        return [numbered(part) for part in value]
    return {text: number for number, text in WORDS.items()}.get(value, value)
