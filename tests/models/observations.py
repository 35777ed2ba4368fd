"""Observation spaces, and observations with random content for any leading axes."""

from typing import Any

import numpy as np

from parl.core.spec import Box, Discrete, MultiDiscrete

SPACES = {
    "vector": Box((3,)),
    "matrix": Box((2, 3)),
    "image": Box((8, 8, 1), "uint8"),
    "discrete": Discrete(4),
    "multidiscrete": MultiDiscrete((2, 3)),
    "dict": {"speed": Box((2,)), "mode": Discrete(3), "legal": Box((4,), "bool")},
}


def draw(space: Any, lead: tuple[int, ...], seed: int = 0) -> Any:
    """Random elements [*lead, *shape] of a space."""
    rng = np.random.default_rng(seed)
    if isinstance(space, dict):
        return {name: draw(part, lead, i) for i, (name, part) in enumerate(space.items())}
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=lead).astype(np.int32)
    if isinstance(space, MultiDiscrete):
        return rng.integers(space.nvec, size=(*lead, len(space.nvec))).astype(np.int32)
    shape = (*lead, *space.shape)
    if space.dtype == "bool":
        legal = rng.random(shape) < 0.5
        legal[..., 0] = True  # something is always legal
        return legal
    if space.dtype == "uint8":
        return rng.integers(256, size=shape).astype(np.uint8)
    return rng.normal(size=shape).astype(np.float32)
