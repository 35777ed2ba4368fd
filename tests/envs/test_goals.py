"""Environments with goals: BitFlip, and how others judge goals, found by trying."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.core.errors import EnvError
from parl.core.goals import Within, exp_minus_distance, minus_distance, shows_goals
from parl.core.spec import Box, Discrete, EnvSpec
from parl.envs.classic.bit_flip import BitFlip
from parl.envs.factory import make_factory
from parl.envs.goals import found_goals, rule_of

KEY = jax.random.key(0)


def goal_spec(size: int) -> EnvSpec:
    space = {name: Box((size,)) for name in ("observation", "achieved_goal", "desired_goal")}
    return EnvSpec("goals", space, Discrete(2))


def test_bits_are_flipped_until_they_are_the_goal() -> None:
    env, bits = BitFlip(4), jnp.float32
    state, obs = env.reset(KEY)
    state = state.replace(bits=bits([0, 1, 1, 0]), goal=bits([1, 1, 1, 1]))
    state, obs, reward, terminated, truncated = env.step(state, jnp.int32(0), KEY)
    np.testing.assert_array_equal(obs["observation"], [1, 1, 1, 0])
    np.testing.assert_array_equal(obs["achieved_goal"], obs["observation"])
    np.testing.assert_array_equal(obs["desired_goal"], [1, 1, 1, 1])
    assert (reward, terminated, truncated) == (-1, False, False)
    state, _, reward, terminated, _ = env.step(state, jnp.int32(3), KEY)
    assert (reward, terminated) == (0, True)
    truncated = env.step(state.replace(time=np.int32(3)), jnp.int32(0), KEY)[4]
    assert truncated


def test_names_of_bit_flip() -> None:
    factory = make_factory("jax:BitFlip-8")
    assert factory.spec.id == "jax:BitFlip-8" and factory.spec.max_steps == 8
    assert shows_goals(factory.spec.observation_space)
    with pytest.raises(EnvError, match="unknown environment"):
        make_factory("jax:BitFlip-0")


def test_a_pure_environment_judges_goals_of_any_leading_axes() -> None:
    goals = make_factory("jax:BitFlip-3").spec.goals
    assert goals is not None and goals.terminated is not None
    achieved = np.array([[[0, 1, 1], [1, 1, 1]]], np.float32)  # [1, 2, 3]
    desired = np.array([1, 1, 1], np.float32)
    np.testing.assert_array_equal(goals.reward(achieved, desired), [[-1, 0]])
    np.testing.assert_array_equal(goals.terminated(achieved, desired), [[False, True]])
    again = make_factory("jax:BitFlip-3").spec.goals
    assert goals == again and hash(goals) == hash(again)  # programs are shared


def distance(a: Any, b: Any) -> Any:
    return np.linalg.norm(np.asarray(a) - b, axis=-1)


@pytest.mark.parametrize(
    ("judge", "rule"),
    [
        (lambda a, b: -(distance(a, b) > 0.05).astype(np.float32), Within(0.05, 0.0, -1.0)),
        (lambda a, b: float(distance(a, b) <= 0.45), Within(0.45, 1.0, 0.0)),
        (lambda a, b: 0.0 if (a == b).all() else -1.0, Within(0.0, 0.0, -1.0)),
        (lambda a, b: -distance(a, b), minus_distance),
        (lambda a, b: np.exp(-distance(a, b)), exp_minus_distance),
        (lambda a, b: -abs(a - b).max(), None),
        (lambda a, b: 1 / 0, None),
    ],
)
def test_rules_are_found_by_trying(judge: Any, rule: Any) -> None:
    found = rule_of(judge, 3)
    if not isinstance(rule, Within):
        assert found is rule
        return
    assert isinstance(found, Within)
    assert (found.inside, found.outside) == (rule.inside, rule.outside)
    assert found.threshold == pytest.approx(rule.threshold, abs=1e-6)


@pytest.mark.parametrize("ends", [True, False])
def test_whether_goals_end_episodes(ends: bool) -> None:
    env = SimpleNamespace(
        compute_reward=lambda a, b, info: float(distance(a, b) <= 0.5),
        compute_terminated=lambda a, b, info: ends and bool(distance(a, b) <= 0.5),
    )
    goals = found_goals(env, goal_spec(2))
    assert goals is not None and (goals.terminated is not None) == ends
    if goals.terminated is not None:
        told = goals.terminated(
            np.array([[0, 0.4], [0, 0.6]], np.float32), np.array([0, 0], np.float32)
        )
        np.testing.assert_array_equal(told, [1.0, 0.0])


def test_environments_without_goals_have_none() -> None:
    assert make_factory("jax:CartPole-v1").spec.goals is None
    assert found_goals(SimpleNamespace(), goal_spec(2)) is None
    assert not shows_goals({"achieved_goal": Box((2,)), "desired_goal": Box((3,))})
