"""The pure JAX classics against Gymnasium's.

Parity is one-step: before each step the JAX physics are set to Gymnasium's, because float32 and
float64 drift apart in systems this sensitive. The step counter is never set, so that time limits
are compared as they run. Free runs without resynchronising are compared over their first 50 steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.core.spec import Box, Discrete, EnvSpec
from parl.envs.classic.acrobot import Acrobot
from parl.envs.classic.cartpole import CartPole, CartPoleMasked
from parl.envs.classic.mountain_car import MountainCarContinuous
from parl.envs.classic.pendulum import Pendulum, PendulumMasked
from parl.envs.classic.repeat_previous import RepeatPrevious
from parl.envs.protocol import JaxEnv

Policy = Callable[[np.random.Generator, np.ndarray], Any]
ENVS: dict[str, Any] = {
    "CartPole-v1": CartPole(),
    "Pendulum-v1": Pendulum(),
    "Acrobot-v1": Acrobot(),
    "MountainCarContinuous-v0": MountainCarContinuous(),
}
RESETS = {  # bounds of the physics after a reset
    "CartPole-v1": ([-0.05] * 4, [0.05] * 4),
    "Pendulum-v1": ([-np.pi, -1], [np.pi, 1]),
    "Acrobot-v1": ([-0.1] * 4, [0.1] * 4),
    "MountainCarContinuous-v0": ([-0.6, 0], [-0.4, 0]),
}
names = pytest.mark.parametrize("name", ENVS)


@cache
def jitted(name: str) -> Any:
    return jax.jit(ENVS[name].step)


def random_policy(name: str) -> Policy:
    """Uniform actions; those of a Box reach beyond [-1, 1] to cover the clipping."""
    space = ENVS[name].spec.action_space
    if isinstance(space, Discrete):
        return lambda rng, obs: rng.integers(space.n)
    return lambda rng, obs: rng.uniform(-1.2, 1.2, (1,)).astype(np.float32)


def patient_policy(name: str) -> Policy:
    """Never ends an episode before its time limit."""
    policies: dict[str, Policy] = {
        "CartPole-v1": lambda rng, obs: int(obs @ [0.1, 0.3, 1.0, 0.6] > 0),
        "Pendulum-v1": random_policy(name),
        "Acrobot-v1": lambda rng, obs: 1,
        "MountainCarContinuous-v0": lambda rng, obs: np.zeros(1, np.float32),
    }
    return policies[name]


def physics_of(name: str, gym_env: Any) -> np.ndarray:
    physics = np.array(gym_env.unwrapped.state, np.float64)
    if name == "Pendulum-v1":  # ours keeps the angle in [-pi, pi]
        physics[0] = (physics[0] + np.pi) % (2 * np.pi) - np.pi
    return physics.astype(np.float32)


@dataclass
class Comparison:
    """What happened in a run of both environments with the same actions."""

    error: float = 0.0  # largest difference of an observation or reward
    terminated: int = 0
    truncated: int = 0
    lengths: list[int] = field(default_factory=list)


def compare(name: str, policy: Policy, steps: int, synchronise: bool = True) -> Comparison:
    """Steps Gymnasium's environment, with its time limit, beside ours."""
    rng = np.random.default_rng(7)
    result = Comparison()
    gym_env: Any = gymnasium.make(name, disable_env_checker=True)
    scale = 2 if name == "Pendulum-v1" else 1  # Gymnasium's action is the torque
    obs, _ = gym_env.reset(seed=7)
    state = ENVS[name].reset(jax.random.key(0))[0].replace(physics=physics_of(name, gym_env))
    for _ in range(steps):
        if synchronise:
            state = state.replace(physics=physics_of(name, gym_env))
        action = policy(rng, obs)
        state, *ours = jitted(name)(state, jnp.asarray(action), jax.random.key(0))
        obs, *theirs, _ = gym_env.step(scale * action)
        errors = [np.abs(ours[0] - obs).max(), abs(float(ours[1]) - float(theirs[0]))]
        result.error = max(result.error, *errors)
        assert ours[0].dtype == np.float32 and ours[1].dtype == np.float32
        assert [bool(end) for end in ours[2:]] == theirs[1:], "terminated, truncated"
        result.terminated += theirs[1]
        result.truncated += theirs[2]
        if any(theirs[1:]):
            result.lengths.append(int(state.time))
            obs, _ = gym_env.reset()
            state = state.replace(time=jnp.int32(0), physics=physics_of(name, gym_env))
    gym_env.close()
    return result


@names
def test_one_step_parity_over_1000_random_steps(name: str) -> None:
    result = compare(name, random_policy(name), 1000)
    assert result.error < 1e-5
    assert result.terminated + result.truncated > 0


@names
def test_time_limit_of_a_full_episode(name: str) -> None:
    limit = ENVS[name].spec.max_steps
    assert limit == gymnasium.spec(name).max_episode_steps
    result = compare(name, patient_policy(name), limit + 1)
    assert result.error < 1e-5
    assert (result.terminated, result.truncated, result.lengths) == (0, 1, [limit])


@names
def test_free_run_of_50_steps(name: str) -> None:
    policy = patient_policy(name) if name == "CartPole-v1" else random_policy(name)
    result = compare(name, policy, 50, synchronise=False)
    assert result.error < 5e-5
    assert result.lengths == []


def test_mountain_car_reaches_the_goal() -> None:
    def push_along(rng: np.random.Generator, obs: np.ndarray) -> np.ndarray:
        return np.sign(obs[1:] + 1e-9, dtype=np.float32)

    result = compare("MountainCarContinuous-v0", push_along, 300)
    assert result.error < 1e-5 and result.terminated >= 2 and result.truncated == 0


def test_acrobot_reaches_the_goal() -> None:
    def pump(rng: np.random.Generator, obs: np.ndarray) -> int:
        return int(obs[4] < 0) * 2  # against the first joint's speed: adds energy

    result = compare("Acrobot-v1", pump, 400)
    assert result.error < 1e-5 and result.terminated >= 1


def test_mountain_car_stops_at_the_left_wall() -> None:
    gym_env: Any = gymnasium.make("MountainCarContinuous-v0", disable_env_checker=True)
    gym_env.reset(seed=0)
    gym_env.unwrapped.state = np.array([-1.19, -0.05], np.float32)
    theirs = gym_env.step(np.array([-1], np.float32))[0]
    state, _ = MountainCarContinuous().reset(jax.random.key(0))
    state = state.replace(physics=jnp.array([-1.19, -0.05]))
    ours = jitted("MountainCarContinuous-v0")(state, jnp.array([-1.0]), jax.random.key(0))[1]
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours, np.array([-1.2, 0], np.float32))
    gym_env.close()


@pytest.mark.parametrize("time", [498, 499])
def test_truncated_is_reported_beside_terminated(time: int) -> None:
    gym_env: Any = gymnasium.make("CartPole-v1", disable_env_checker=True)
    gym_env.reset(seed=0)
    gym_env.unwrapped.state = np.array([2.39, 5.0, 0.0, 0.0])
    gym_env._elapsed_steps = time
    _, _, *theirs, _ = gym_env.step(1)
    state, _ = CartPole().reset(jax.random.key(0))
    state = state.replace(physics=jnp.array([2.39, 5.0, 0.0, 0.0]), time=jnp.int32(time))
    _, _, _, terminated, truncated = jitted("CartPole-v1")(state, jnp.int32(1), jax.random.key(0))
    assert [bool(terminated), bool(truncated)] == theirs == [True, time == 499]
    gym_env.close()


@names
def test_reset_is_uniform_within_its_bounds(name: str) -> None:
    low, high = np.array(RESETS[name], np.float32)
    state, obs = jax.jit(jax.vmap(ENVS[name].reset))(jax.random.split(jax.random.key(3), 4096))
    physics, width = np.asarray(state.physics), high - low
    assert (physics >= low).all() and (physics <= high).all()
    np.testing.assert_allclose(physics.min(0), low, atol=0.01 * width.max())
    np.testing.assert_allclose(physics.max(0), high, atol=0.01 * width.max())
    np.testing.assert_allclose(physics.mean(0), (low + high) / 2, atol=0.03 * width.max())
    np.testing.assert_allclose(physics.std(0), width / np.sqrt(12), atol=0.03 * width.max())
    assert np.asarray(obs).dtype == np.float32 and not np.asarray(state.time).any()


@names
def test_vmapped_and_jitted(name: str) -> None:
    env = ENVS[name]
    assert isinstance(env, JaxEnv)
    keys = jax.random.split(jax.random.key(0), 5)
    action = jnp.asarray(np.repeat(env.spec.action, 5, axis=0))

    def run(keys: jax.Array, action: jax.Array) -> Any:
        state, obs = jax.vmap(env.reset)(keys)
        return (state, obs), jax.vmap(env.step)(state, action, keys)

    before, after = jax.eval_shape(run, keys, action)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(
        lambda x: (x.shape, x.dtype), after[:2]
    ), "a scan can carry the state"
    obs, reward, terminated, truncated = jax.jit(run)(keys, action)[1][1:]
    assert obs.shape == (5, *env.spec.obs.shape[1:])
    assert (reward.shape, terminated.shape, truncated.shape) == ((5,),) * 3
    assert terminated.dtype == truncated.dtype == bool


@names
def test_spec(name: str) -> None:
    spec: EnvSpec = ENVS[name].spec
    space: Any = spec.observation_space
    actions: Any = spec.action_space
    gym_env: Any = gymnasium.make(name, disable_env_checker=True)
    theirs: Any = gym_env.observation_space
    assert isinstance(spec, EnvSpec) and spec.id == f"jax:{name}"
    assert space == Box(theirs.shape) and spec.num_agents is None
    np.testing.assert_array_equal(space.low, theirs.low)
    np.testing.assert_array_equal(space.high, theirs.high)
    if isinstance(actions, Discrete):
        assert actions == Discrete(gym_env.action_space.n)
    else:
        assert actions == Box(gym_env.action_space.shape)
        assert (actions.low, actions.high) == (-1, 1)
    gym_env.close()


def test_masked_cartpole_is_cartpole_without_its_velocities() -> None:
    masked, plain, key = CartPoleMasked(max_steps=20), CartPole(max_steps=20), jax.random.key(4)
    (state, obs), (whole, seen) = masked.reset(key), plain.reset(key)
    np.testing.assert_array_equal(obs, np.asarray(seen)[[0, 2]])
    both = [jax.jit(env.step) for env in (masked, plain)]
    for _ in range(20):
        action = jnp.int32(whole.physics @ jnp.array([0.1, 0.3, 1.0, 0.6]) > 0)
        state, obs, *answer = both[0](state, action, key)
        whole, seen, *expected = both[1](whole, action, key)
        np.testing.assert_array_equal(obs, np.asarray(seen)[[0, 2]])
        np.testing.assert_array_equal(state.physics, whole.physics)
        assert [float(x) for x in answer] == [float(x) for x in expected]
    assert [float(x) for x in answer] == [1, False, True]
    spec: EnvSpec = masked.spec
    space: Any = spec.observation_space
    assert spec.id == "jax:CartPoleMasked-v1" and space == Box((2,)) and spec.max_steps == 20
    np.testing.assert_array_equal(space.high, ENVS["CartPole-v1"].spec.observation_space.high[::2])


def test_masked_pendulum_is_pendulum_without_its_speed() -> None:
    masked, plain, key = PendulumMasked(max_steps=2), Pendulum(max_steps=2), jax.random.key(4)
    (state, obs), (whole, seen) = masked.reset(key), plain.reset(key)
    np.testing.assert_array_equal(obs, seen[:2])
    action = jnp.array([0.5])
    state, obs, *answer = jax.jit(masked.step)(state, action, key)
    whole, seen, *expected = jax.jit(plain.step)(whole, action, key)
    np.testing.assert_array_equal(obs, seen[:2])
    assert [float(x) for x in answer] == [float(x) for x in expected]
    spec: EnvSpec = masked.spec
    assert spec.id == "jax:PendulumMasked-v1" and spec.observation_space == Box(
        (2,), low=-1, high=1
    )


@pytest.mark.parametrize(("delay", "cards"), [(1, 52), (4, 52), (32, 104), (64, 156)])
def test_the_card_before_is_to_be_named(delay: int, cards: int) -> None:
    """All right: a return of 1; one wrong: 2 / answers less. As many answers as POPGym has."""
    env = RepeatPrevious(delay)
    assert env.spec.max_steps == cards - 1

    def play(wrong: int) -> tuple[float, list[int], int]:
        state, obs = env.reset(jax.random.key(1))
        suits, total, over, paid = [int(obs)], 0.0, False, 0
        while not over:
            asked = len(suits) - delay
            action = (suits[max(asked, 0)] + (asked == wrong)) % 4
            state, obs, reward, over, truncated = step(state, action, jax.random.key(0))
            total, paid = total + float(reward), paid + (float(reward) != 0)
            suits.append(int(obs))
            assert not truncated
        return total, suits, paid

    step = jax.jit(env.step)
    total, suits, paid = play(wrong=-1)
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert paid == cards - delay and np.bincount(suits).tolist() == [cards // 4] * 4
    if delay == 4:
        np.testing.assert_allclose(play(wrong=7)[0], 1 - 2 / paid, rtol=1e-5)
