"""Atari games with the preprocessing of Mnih et al. 2015, doi:10.1038/nature14236.

Frame skip 4 with the maximum of the last two frames, greyscale, 84x84, four frames stacked as
channels, up to 30 no-op frames after a reset. Rewards are not clipped. Sticky actions have the
probability of the registered game, 0.25 for `-v5`: Machado et al. 2018, arXiv:1709.06009.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from parl.core.errors import EnvError
from parl.envs.adapters.gymnasium_make import make_gymnasium

FRAMES = 4  # skipped, and stacked


def make_atari(name: str, /, **kwargs: Any) -> Callable[[], gymnasium.Env]:
    """A maker of a game such as 'Pong' or 'Pong-v5'; keyword arguments are the emulator's.

    Raises EnvError for an unknown one.
    """
    if "frameskip" in kwargs:
        raise EnvError(f"ale:{name} skips {FRAMES} frames; it takes no argument frameskip.")
    id = f"ALE/{name}" if "-v" in name else f"ALE/{name}-v5"
    return partial(_make, make_gymnasium(id, frameskip=1, **kwargs))


def _make(make: Callable[[], gymnasium.Env]) -> gymnasium.Env:
    env = wrappers.AtariPreprocessing(make(), frame_skip=FRAMES)
    return FramesLast(wrappers.FrameStackObservation(env, FRAMES))


class FramesLast(gymnasium.ObservationWrapper):
    """Moves stacked frames [F, H, W] to the last axis, [H, W, F], for convolutions."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        frames, height, width = env.observation_space.shape or (0, 0, 0)
        self.observation_space = spaces.Box(0, 255, (height, width, frames), np.uint8)

    def observation(self, observation: Any) -> np.ndarray:
        """[F, H, W] to [H, W, F]."""
        return np.moveaxis(np.asarray(observation), 0, -1)
