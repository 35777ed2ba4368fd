"""Gymnasium environments that are rebuilt individually when they raise.

A pool rebuilds all environments of a worker when one of them raises. With `resilient` around the
maker only that environment is rebuilt, and the others keep their episodes:

    GymnasiumVectorEnv(resilient(make_gymnasium("MyEnv-v0")), 8, seed)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np

Make = Callable[[], gymnasium.Env]


def resilient(make: Make, failures: int = 3) -> Make:
    """A maker whose environments truncate the episode when the environment raises.

    After `failures` exceptions without a completed episode in between, the next one is raised, so
    an environment that always fails ends the run.
    """
    return partial(Resilient, make, failures)


class Resilient(gymnasium.Wrapper):
    """Rebuilds the environment when it raises; that step truncates the episode with reward 0."""

    def __init__(self, make: Make, failures: int):
        super().__init__(make())
        self.make, self.failures = make, failures
        self.in_a_row = self.rebuilds = 0
        self.obs: Any = None
        team = getattr(self.unwrapped, "team", None)
        self.nothing = 0.0 if team is None else np.zeros(team.agent_shape, np.float32)
        self.entropy = np.random.SeedSequence()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode, in a new environment if the old one raises."""
        if seed is not None:
            self.entropy = np.random.SeedSequence(seed)
        while True:
            try:
                self.obs, info = self.env.reset(seed=seed, options=options)
                return self.obs, info
            except Exception as error:
                seed = self.rebuild(error)

    def step(self, action: Any) -> Any:
        """One step; if it raises, the episode is truncated at the last observation."""
        try:
            answer = self.env.step(action)
        except Exception as error:
            seed = self.rebuild(error)
            last = self.obs
            self.reset(seed=seed)
            return last, self.nothing, False, True, {"rebuilt": f"{type(error).__name__}: {error}"}
        self.obs = answer[0]
        if answer[2] or answer[3]:
            self.in_a_row = 0
        return answer

    def rebuild(self, error: Exception) -> int:
        """Replaces the environment and returns a fresh seed; re-raises after too many failures."""
        self.in_a_row += 1
        if self.in_a_row > self.failures:
            raise
        self.rebuilds += 1
        self.env = self.make()
        return int(self.entropy.spawn(1)[0].generate_state(1)[0])
