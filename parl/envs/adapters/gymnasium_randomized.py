"""Domain randomisation of Gymnasium environments."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from parl.envs.adapters.gymnasium import GymnasiumVectorEnv, set_parameters
from parl.envs.randomized import Range


class RandomizedEnv(gymnasium.Wrapper):
    """Sets an environment's parameters at each reset, each drawn evenly from its range.

    A parameter is a keyword of the environment's method `set_parameters`, or an attribute. What was
    whole before stays whole.
    """

    def __init__(self, env: gymnasium.Env, ranges: Sequence[Range], id: str):
        super().__init__(env)
        self.ranges, self.id, self.drawn = ranges, id, np.random.default_rng(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        """An episode with new parameters; `seed` also seeds these."""
        if seed is not None:
            self.drawn = np.random.default_rng([seed, 1])  # apart from the environment's own
        drawn = {each.name: self.draw(each) for each in self.ranges}
        set_parameters(self.env, drawn, self.id)
        return self.env.reset(seed=seed, options=options)

    def draw(self, within: Range) -> float | int:
        """A number of the range."""
        own = self.env.get_wrapper_attr(within.name) if self.has_wrapper_attr(within.name) else 0.0
        if isinstance(own, int) and not isinstance(own, bool):
            return int(self.drawn.integers(int(within.low), int(within.high) + 1))
        return float(self.drawn.uniform(within.low, within.high))


def randomize(vector: GymnasiumVectorEnv, ranges: Sequence[Range]) -> GymnasiumVectorEnv:
    """The vector, each of its environments with parameters drawn at its resets."""
    vector.wrap([RandomizedEnv(env, ranges, vector.spec.id) for env in vector.envs])
    return vector
