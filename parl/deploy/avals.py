"""Abstract values of a jaxpr, whose batch is the symbol b, as programs have them."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from parl.deploy.builder import UnsupportedOperation
from parl.deploy.shapes import Shape


class Missing(Exception):
    """An equation is of a kind that is served, but not in this form."""


def opened(closed: Any) -> tuple[Any, Sequence[Any]]:
    """(jaxpr, constants) of a jaxpr that is closed or has no constants."""
    return (closed.jaxpr, closed.consts) if hasattr(closed, "consts") else (closed, ())


def size_of(size: Any) -> int:
    """A size as programs have it: -k for k times the batch."""
    if isinstance(size, int | np.integer):
        return int(size)
    match = re.fullmatch(r"(?:(\d+)\*)?b", str(size))
    if match is None:
        raise UnsupportedOperation(
            f"this policy makes arrays of {size} numbers for a batch of b: export needs whole "
            "multiples of the batch."
        )
    return -int(match[1] or 1)


def is_key(aval: Any) -> bool:
    """Whether a value is of random keys."""
    return jax.numpy.issubdtype(aval.dtype, jax.dtypes.prng_key)


def shape_of(aval: Any) -> Shape:
    """The shape of an abstract value; keys have two numbers behind their axes."""
    return (*map(size_of, aval.shape), *((2,) if is_key(aval) else ()))


def dtype_of(aval: Any) -> str:
    """The dtype of an abstract value; keys are uint32."""
    return "uint32" if is_key(aval) else np.dtype(aval.dtype).name
