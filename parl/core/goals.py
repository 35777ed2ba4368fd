"""Goals: an environment asks for one, an episode achieves others, and rewards follow from both.

A goal-conditioned environment shows `achieved_goal` and `desired_goal` [G] in its dict of
observations, as those of Gymnasium-Robotics do. Shapes: [..., G] goals of any leading axes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from parl.core.spec import Space
from parl.core.types import Array

ACHIEVED, DESIRED = "achieved_goal", "desired_goal"
Judge = Callable[[Any, Any], Any]  # of achieved and desired goals [..., G]: numbers [...]


@dataclass(frozen=True)
class Goals:
    """How an environment judges what was achieved: pure functions that compare by value."""

    reward: Judge
    terminated: Judge | None = None  # whether an episode ends there; None: goals end none


@dataclass(frozen=True)
class Within:
    """`inside` where the Euclidean distance is at most `threshold`, else `outside`."""

    threshold: float
    inside: Any = 0.0
    outside: Any = -1.0

    def __call__(self, achieved: Any, desired: Any) -> Array:
        near = distance(achieved, desired) <= self.threshold
        return jnp.where(near, self.inside, self.outside)


def distance(achieved: Any, desired: Any) -> Array:
    """The Euclidean distance [...] between goals."""
    return jnp.linalg.norm(jnp.asarray(achieved, "float32") - desired, axis=-1)


def minus_distance(achieved: Any, desired: Any) -> Array:
    """A dense reward: the distance with its sign changed."""
    return -distance(achieved, desired)


def exp_minus_distance(achieved: Any, desired: Any) -> Array:
    """A dense reward in (0, 1]."""
    return jnp.exp(-distance(achieved, desired))


def shows_goals(space: Space) -> bool:
    """Whether observations of a space hold an achieved and a desired goal, vectors of one form."""
    if not isinstance(space, Mapping) or not {ACHIEVED, DESIRED} <= space.keys():
        return False
    achieved, desired = space[ACHIEVED], space[DESIRED]
    if isinstance(achieved, Mapping) or isinstance(desired, Mapping):
        return False
    return (
        type(achieved) is type(desired)
        and achieved.shape == desired.shape
        and len(desired.shape) == 1
    )
