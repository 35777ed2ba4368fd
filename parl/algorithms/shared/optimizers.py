"""What optimisers of all algorithms are made of: a field `optimizer`, and these."""

from collections.abc import Callable
from typing import Any

import optax

Optimizer = Callable[..., optax.GradientTransformation]  # of a learning rate or its schedule


def annealed(rate: Any, steps: int) -> Any:
    """A rate that falls linearly to 0 over so many steps of the optimiser; constant if 0."""
    return optax.linear_schedule(rate, 0.0, steps) if steps else rate


def annealed_by_cosine(rate: Any, steps: int) -> Any:
    """A rate that falls to 0 by half a cosine over so many steps; constant if 0."""
    return optax.cosine_decay_schedule(rate, steps) if steps else rate


def clipped(optimizer: optax.GradientTransformation, norm: Any) -> optax.GradientTransformation:
    """An optimiser behind a clip of the gradient's global norm."""
    return optax.chain(optax.clip_by_global_norm(norm), optimizer)
