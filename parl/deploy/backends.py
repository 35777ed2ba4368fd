"""The written forms of a policy, ready to act: each reads its file, never the object behind it.

All take inputs [B, ...] by name and give outputs [B, ...] by name.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from parl.deploy.policy import Policy

Backend = Callable[[dict[str, Any], int], dict[str, Any]]


def numpy_backend(place: Path, program: str = "greedy") -> Backend:
    """contract.json and weights.npz, in NumPy."""
    return Policy.load(place).runners[program]


BACKENDS: dict[str, Callable[..., Backend]] = {"numpy": numpy_backend}
