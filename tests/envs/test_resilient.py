from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from parl.core.errors import EnvError
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.adapters.resilient import Resilient, resilient


class Fragile(gymnasium.Env):
    """Counts its steps; ends after `length`, raises at `bad` in each life."""

    observation_space = gymnasium.spaces.Box(-100, 100, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    made = 0

    def __init__(self, bad, length=4):
        Fragile.made += 1
        self.bad, self.length, self.life = bad, length, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time, self.life = self.time + 1, self.life + 1
        if self.life == self.bad:
            raise OSError("the simulator is gone")
        return np.full(1, self.time, np.float32), 1.0, self.time == self.length, False, {}


def make_vector(bads):
    makers = iter([partial(Fragile, bad) for bad in bads])
    return GymnasiumVectorEnv(lambda: Resilient(next(makers), 3), 2, 0)


def test_only_the_environment_that_raises_starts_anew():
    env: Any = make_vector([6, 1000])
    env.reset()
    rows = []
    for _ in range(8):
        new = env.step(np.zeros(2, np.int32))
        rows.append([*new.next_obs[:, 0], *new.reward, *new.terminated, *new.truncated])
    expected = [  # next_obs, reward, terminated, truncated of the fragile one and of the other
        [1, 1, 1, 1, 0, 0, 0, 0],
        [2, 2, 1, 1, 0, 0, 0, 0],
        [3, 3, 1, 1, 0, 0, 0, 0],
        [4, 4, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [1, 2, 0, 1, 0, 0, 1, 0],  # raised: the last observation again, truncated
        [1, 3, 1, 1, 0, 0, 0, 0],
        [2, 4, 1, 1, 0, 1, 0, 0],
    ]
    np.testing.assert_array_equal(rows, expected)
    assert [one.rebuilds for one in env.envs] == [1, 0]


def test_one_that_always_raises_is_not_rebuilt_for_ever():
    made = Fragile.made
    env: Any = make_vector([1, 1000])
    env.reset()
    for _ in range(3):
        env.step(np.zeros(2, np.int32))
    with pytest.raises(EnvError, match="raised OSError in step of environment 0"):
        env.step(np.zeros(2, np.int32))
    assert Fragile.made - made == 2 + 3


def test_a_maker_that_fails_is_an_error():
    with pytest.raises(RuntimeError, match="no licence"):
        resilient(fail)()


def fail():
    raise RuntimeError("no licence")
