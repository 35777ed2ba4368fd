"""Runs with goals: from the command line's settings to what is refused."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import parl
from parl.core.errors import ConfigError
from parl.core.goals import Goals, Within
from parl.envs.classic.bit_flip import BitFlip
from parl.envs.factory import make_factory

TINY: dict[str, Any] = {"steps": 64, "num_envs": 2, "length": 8, "updates": 1, "batch_size": 4}
TINY |= {"hidden": (4,), "warmup": 16, "eval_episodes": 0, "curve": False}


class Reach(gymnasium.Env):
    """Steps left or right on a line to a goal, as Gymnasium-Robotics' environments do."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Dict(
        {name: spaces.Box(-9, 9, (1,)) for name in ("observation", "achieved_goal", "desired_goal")}
    )

    def observed(self) -> dict[str, Any]:
        at = np.array([self.at], np.float32)
        return {"observation": at, "achieved_goal": at, "desired_goal": np.array([3], np.float32)}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at, self.time = 0, 0
        return self.observed(), {}

    def step(self, action: Any) -> Any:
        self.at, self.time = self.at + 2 * int(action) - 1, self.time + 1
        obs = self.observed()
        reward = self.compute_reward(obs["achieved_goal"], obs["desired_goal"], {})
        return obs, float(reward), False, self.time >= 7, {}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > 0.5).astype(np.float32)


class Silent(BitFlip):
    """Does not say how it judges goals."""

    compute_reward: Any = None

    def step(self, state: Any, action: Any, key: Any) -> Any:
        return BitFlip(self.bits).step(state, action, key)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("jax:CartPole-v1", "her replaces goals, and jax:CartPole-v1 shows none"),
        (Silent(3), "her has to know what jax:BitFlip-3 pays for another goal"),
    ],
)
def test_hindsight_needs_goals(env: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parl.train("dqn", env=env, her=True, **TINY)


def test_goals_of_gymnasium_environments_are_judged_by_the_rule_that_was_found() -> None:
    assert make_factory(Reach).spec.goals == Goals(Within(pytest.approx(0.5)))  # type: ignore
    run = parl.train("dqn", env=Reach, her=True, **TINY)
    assert run.result["env_steps"] == 64
