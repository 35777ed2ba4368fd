"""Finds the stack of frames that Gymnasium's wrappers make."""

from typing import Any

import gymnasium
from gymnasium.wrappers import FrameStackObservation


def stack_of(env: gymnasium.Env) -> dict[str, Any] | None:
    """The stack in which an environment's observations end, as data; None where there is none."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, FrameStackObservation):
            padding = env.padding_type
            if padding not in ("reset", "zero"):
                return None  # a frame of the user's own
            return {"kind": "stack", "frames": int(env.stack_size), "axis": 0, "padding": padding}
        if isinstance(env, gymnasium.ObservationWrapper):
            return None  # what it does to a stack is not known
        env = env.env
    return None
