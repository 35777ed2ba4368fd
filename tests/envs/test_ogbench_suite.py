"""OGBench, where it is installed: goals in observations, ends of episodes, one seed one episode."""

import importlib.util
from typing import Any

import numpy as np
import pytest

from parl.core.errors import EnvError
from parl.core.goals import Within
from parl.core.spec import Box
from parl.envs.factory import make_factory

if importlib.util.find_spec("ogbench") is None:
    pytest.skip("OGBench is not installed", allow_module_level=True)
MAZE = "ogbench:pointmaze-medium-v0"


def played(id: str, seed: int, steps: int = 20) -> list[Any]:
    env: Any = make_factory(id).vector(2, seed, 0)
    rng, found = np.random.default_rng(0), [env.reset()]
    for _ in range(steps):
        new = env.step(rng.uniform(-1, 1, (2, *np.shape(env.spec.action)[1:])).astype(np.float32))
        found += [new.obs, new.reward, new.terminated, new.truncated]
    env.close()
    return found


def test_a_maze_shows_its_goal_and_says_how_it_judges() -> None:
    spec = make_factory(MAZE).spec
    assert spec.max_steps == 1_000 and spec.action_space.shape == (2,)  # pyright: ignore
    assert spec.observation_space == dict.fromkeys(
        ("observation", "achieved_goal", "desired_goal"), Box((2,))
    )
    assert spec.goals is not None and spec.goals.terminated == Within(1.0, 1.0, 0.0)
    assert spec.goals.reward == Within(1.0, 1.0, 0.0)
    assert make_factory("ogbench:pointmaze-medium-singletask-v0").spec.observation_space == Box(
        (2,)
    )


def test_one_seed_is_one_game() -> None:
    """Starts, goals and teleports too; NumPy's own numbers are left as they were."""
    np.random.seed(7)
    told: Any = np.random.get_state()
    for id in (MAZE, "ogbench:pointmaze-teleport-v0"):
        one, same, other = played(id, 3), played(id, 3), played(id, 4)
        for a, b in zip(one, same, strict=True):
            np.testing.assert_equal(a, b)
        assert (one[0]["desired_goal"] != other[0]["desired_goal"]).any()
    now: Any = np.random.get_state()
    np.testing.assert_array_equal(now[1], told[1])


def test_an_episode_ends_at_the_goal() -> None:
    """Goal and start of the first task lie in two corners: (20, 20) and (0, 0), but for noise."""
    factory = make_factory(MAZE + "?task=1&add_noise_to_goal=False")
    env: Any = factory.vector(1, 0, 0)
    obs = env.reset()
    np.testing.assert_array_equal(obs["desired_goal"], [[20, 20]])
    assert np.abs(obs["observation"]).max() <= 1.0
    inner = env.envs[0].unwrapped
    inner.env.unwrapped.set_xy(np.array([19.5, 20.0]))
    new = env.step(np.zeros((1, 2), np.float32))
    assert new.reward == 1 and new.terminated and not new.truncated
    np.testing.assert_allclose(new.next_obs["achieved_goal"], [[19.5, 20.0]], atol=1e-5)
    env.close()


def test_names_that_there_are_not() -> None:
    with pytest.raises(EnvError, match="pointmaze-medium-v0"):
        make_factory("ogbench:pointmaze-medium-v1")
