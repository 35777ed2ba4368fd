"""Games as the algorithms see them."""

import numpy as np
import pytest

from parl.core.errors import EnvError
from parl.core.spec import Box, Discrete

pytest.importorskip("ale_py")
pytest.importorskip("cv2")

from parl.envs.adapters.atari import make_atari
from parl.envs.factory import from_id


def test_pong_is_four_grey_frames_of_84_by_84() -> None:
    factory = from_id("ale:Pong")
    assert factory.spec.id == "ale:Pong"
    assert factory.spec.observation_space == Box((84, 84, 4), "uint8")
    assert factory.spec.action_space == Discrete(6)


def test_frames_move_up_the_stack() -> None:
    env = make_atari("Pong")()
    obs, _ = env.reset(seed=0)
    after, *_ = env.step(2)
    assert after.shape == (84, 84, 4) and after.dtype == np.uint8
    np.testing.assert_array_equal(after[..., :3], obs[..., 1:])


def test_an_action_is_held_for_four_frames() -> None:
    env = make_atari("Pong")()
    env.reset(seed=0)
    before = env.unwrapped.ale.getEpisodeFrameNumber()  # pyright: ignore
    env.step(0)
    assert env.unwrapped.ale.getEpisodeFrameNumber() == before + 4  # pyright: ignore


def test_an_unknown_game_is_refused() -> None:
    with pytest.raises(EnvError, match="unknown environment 'ALE/Pongg-v5'"):
        make_atari("Pongg")
