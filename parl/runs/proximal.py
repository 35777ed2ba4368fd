"""FedProx as a change of a run's learner."""

from typing import Any

from parl import ops
from parl.agents.learner import Learner
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError


def with_proximal(learner: Learner, mu: float) -> Learner:
    """The learner whose optimiser is held near the average by `mu`. Raises ConfigError."""
    return learner.replace(algorithm=held(learner.algorithm, mu)) if mu else learner


def held(algorithm: Algorithm, mu: float) -> Algorithm:
    """The algorithm, or the one within, with a proximal optimiser. Raises ConfigError."""
    parts: Any = vars(algorithm)
    if "inner" in parts:
        return algorithm.replace(inner=held(parts["inner"], mu))
    if "optimizer" not in parts:
        raise ConfigError(
            f"{type(algorithm).__name__} has no field `optimizer`, which proximal changes: leave "
            "it out."
        )
    return algorithm.replace(optimizer=ops.Proximal(parts["optimizer"], mu))
