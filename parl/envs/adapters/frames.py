"""Frames of environments of other packages, one at each step, before any reset."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from parl.core.errors import EnvError
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv


class Watched(gymnasium.Wrapper):
    """An environment that keeps a frame of the start and of every step of each episode.

    Those of the first episode are shown, too.
    """

    def __init__(self, env: gymnasium.Env, id: str, show: Callable[[np.ndarray], None]):
        super().__init__(env)
        self.id, self.show, self.episodes = id, show, []

    def reset(self, **options: Any) -> Any:
        answer = self.env.reset(**options)
        self.episodes.append([])
        self.look()
        return answer

    def step(self, action: Any) -> Any:
        answer = self.env.step(action)
        self.look()
        return answer

    def look(self) -> None:
        """Keeps the frame of now."""
        self.episodes[-1].append(picture(self.env, self.id))
        if len(self.episodes) == 1:  # the next one opens right after the end of the first
            self.show(self.episodes[0][-1])


def picture(env: Any, id: str) -> np.ndarray:
    """[H, W, 3] uint8 of what an environment shows now. Raises EnvError where it shows nothing."""
    inner: Any = env.unwrapped
    if hasattr(inner, "control"):  # dm_control has no modes
        found = inner.control.physics.render(480, 480, camera_id=0)
    else:
        shown = env if type(inner).render is not gymnasium.Env.render else inner.env
        found = shown.render()
    frame = np.asarray(found)
    if frame.ndim != 3 or frame.shape[-1] != 3:
        raise EnvError(f"{id} gives no pictures: its render_mode 'rgb_array' is {found!r:.60}.")
    return frame.astype(np.uint8)


def watched(
    env: GymnasiumVectorEnv, show: Callable[[np.ndarray], None] = lambda frame: None
) -> list[Watched]:
    """Has a vector's environments keep and show their frames; returns them in their order."""
    found = [Watched(each, env.spec.id, show) for each in env.envs]
    env.wrap(found)
    return found
