"""Frames of environments of other packages, one at each step, before any reset."""

from typing import Any

import gymnasium
import numpy as np

from parl.core.errors import EnvError
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv


class Watched(gymnasium.Wrapper):
    """An environment that keeps a frame of the start and of every step of each episode."""

    def __init__(self, env: gymnasium.Env, id: str):
        super().__init__(env)
        self.id, self.episodes = id, []

    def reset(self, **options: Any) -> Any:
        answer = self.env.reset(**options)
        self.episodes.append([picture(self.env, self.id)])
        return answer

    def step(self, action: Any) -> Any:
        answer = self.env.step(action)
        self.episodes[-1].append(picture(self.env, self.id))
        return answer


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


def watched(env: GymnasiumVectorEnv) -> list[Watched]:
    """Has a vector's environments keep their frames; returns them in their order."""
    found = [Watched(each, env.spec.id) for each in env.envs]
    env.wrap(found)
    return found
