"""OGBench: mazes and manipulation with goals, for offline learning: `ogbench:pointmaze-medium-v0`.

Park et al. 2024, arXiv:2410.20092. An observation is a dict of `observation`, `achieved_goal`, its
equal, and `desired_goal`, the observation at the goal. Names with `singletask` show the observation
alone and pay -1 per step. `task=N` plays one of the five tasks; other options are those of the
package's class, such as `terminate_at_goal=False`.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import ogbench as ogbench  # pyright: ignore[reportMissingImports]
from gymnasium import spaces

from parl.core.errors import EnvError, nearest
from parl.core.goals import ACHIEVED, DESIRED


def make_ogbench(name: str, /, **options: Any) -> Callable[[], gymnasium.Env]:
    """A maker of the environment `name`. Raises EnvError."""
    registered = gymnasium.registry.items()
    known = {id: of.kwargs for id, of in registered if str(of.entry_point).startswith("ogbench.")}
    if name not in known:
        raise EnvError(f"unknown environment 'ogbench:{name}'.{nearest(name, known)}")
    if not known[name].get("loco_env_type") or known[name].get("maze_env_type") != "maze":
        return functools.partial(OGBench, name, **options)
    return functools.partial(Maze, name, **options)


class OGBench(gymnasium.Env):
    """One environment. All randomness follows from the seed, that of NumPy's global numbers too."""

    def __init__(self, name: str, task: int | None = None, **options: Any):
        self.env = gymnasium.make(name, **options)
        self.options: dict[str, Any] = {} if task is None else {"task_id": task}
        self.spec, self.render_mode = self.env.spec, self.env.render_mode
        self.action_space, seen = self.env.action_space, self.env.observation_space
        inner: Any = self.env.unwrapped
        self.teleports = getattr(inner, "_teleport_info", None) is not None  # to a random place
        self.shows_goal, self.goal = "singletask" not in name, np.zeros(0)
        names = ("observation", ACHIEVED, DESIRED)
        self.observation_space = (
            spaces.Dict(dict.fromkeys(names, seen)) if self.shows_goal else seen
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        with self.drawing() as drawn:
            self.env.action_space.seed(drawn)
            obs, info = self.env.reset(seed=drawn, options=self.options | (options or {}))
        self.goal = info.get("goal", self.goal)
        return self.seen(obs), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        with self.drawing() if self.teleports else contextlib.nullcontext():
            obs, reward, terminated, truncated, info = self.env.step(action)
        return self.seen(obs), float(reward), terminated, truncated, info

    def seen(self, obs: np.ndarray) -> Any:
        """The observation beside the goal."""
        if not self.shows_goal:
            return obs
        return {"observation": obs, ACHIEVED: obs, DESIRED: self.goal}

    @contextlib.contextmanager
    def drawing(self) -> Iterator[int]:
        """Inside, NumPy's global numbers follow from a number that is drawn here."""
        before, drawn = np.random.get_state(), int(self.np_random.integers(2**32))
        np.random.seed(drawn)
        try:
            yield drawn
        finally:
            np.random.set_state(before)

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()


class Maze(OGBench):
    """A maze, whose goal is a place, the first two numbers of an observation."""

    def compute_reward(self, achieved: Any, desired: Any, info: dict[str, Any]) -> float:
        """1 at the goal [O], else 0."""
        inner: Any = self.env.unwrapped
        away = np.linalg.norm(np.asarray(achieved)[:2] - np.asarray(desired)[:2])
        return float(away <= inner._goal_tol)

    def compute_terminated(self, achieved: Any, desired: Any, info: dict[str, Any]) -> bool:
        """Whether the episode ends there."""
        inner: Any = self.env.unwrapped
        return bool(inner._terminate_at_goal and self.compute_reward(achieved, desired, info))
