"""Tasks of the DeepMind Control Suite: ids, repeats, ends of episodes, exact state."""

import importlib.util
import json
from typing import Any

import numpy as np
import pytest

from parl.core.errors import EnvError, MissingPackage
from parl.core.spec import Box
from parl.envs.factory import make_factory
from parl.envs.protocol import EnvState


def test_without_the_package_it_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "dm_control" else find(name)
    )
    with pytest.raises(MissingPackage) as caught:
        make_factory("dmc:cheetah-run")
    assert str(caught.value) == (
        "dmc:cheetah-run needs DeepMind Control, which is not installed: "
        "pip install dm_control 'mujoco<4'"
    )


suite = pytest.importorskip("dm_control.suite")
try:
    make_factory("dmc:cheetah-run")
except MissingPackage as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT where it runs


def actions(spec, steps, num_envs, seed=0):
    shape = (steps, num_envs, *spec.action_space.shape)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_the_spec_of_a_task():
    spec = make_factory("dmc:cheetah-run").spec
    assert spec.id == "dmc:cheetah-run" and spec.max_steps == 1000
    assert spec.observation_space == Box((17,))
    act: Any = spec.action_space
    assert act == Box((6,)) and float(act.high) == 1.0
    assert make_factory("dmc:cheetah-run?repeat=2").spec.max_steps == 500
    assert make_factory("dmc:cheetah-run?repeat=3").spec.max_steps == 334
    assert make_factory("dmc:finger-turn_hard").spec.id == "dmc:finger-turn_hard"
    assert make_factory("dmc:ball-in-cup-catch").spec.observation_space == Box((8,))


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("dmc:cheeta-run", "unknown environment 'dmc:cheeta-run'. Did you mean cheetah-run?"),
        ("dmc:cheetah-run?repeat=0", "'dmc:cheetah-run?repeat=0' has the option repeat=0; it can"),
        ("dmc:cheetah-run?repeat=two", "has the option repeat=two; it can be repeat=1, repeat=2,"),
        ("dmc:cheetah-run?skip=2", "has the option skip=2; it can be repeat=1"),
    ],
)
def test_ids_that_do_not_exist(id, message):
    with pytest.raises(EnvError) as caught:
        make_factory(id)
    assert message in str(caught.value)


@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_steps_are_those_of_the_suite(repeat):
    """Rewards are sums over the repeat, the time limit is a truncation, and next_obs its end."""
    env = make_factory(f"dmc:cartpole-swingup?repeat={repeat}").vector(1, 3)
    seed = int(np.random.SeedSequence([3, 0]).generate_state(1)[0])
    hand = suite.load("cartpole", "swingup", {"random": seed})
    flat = lambda new: np.concatenate([np.ravel(x) for x in new.observation.values()])
    np.testing.assert_array_equal(env.reset()[0], flat(hand.reset()).astype(np.float32))
    length = -(-1000 // repeat)
    for t, action in enumerate(actions(env.spec, length + 2, 1)):
        out = env.step(action)
        if t == length:
            hand.reset()
        reward = 0.0
        for _ in range(repeat):
            new = hand.step(action[0].astype(np.float64))
            reward += new.reward
            if new.last():
                break
        np.testing.assert_array_equal(out.next_obs[0], flat(new).astype(np.float32))
        assert out.reward[0] == np.float32(reward)
        assert out.truncated[0] == new.last() == (t == length - 1) and not out.terminated[0]
    assert out.obs.dtype == np.float32


def test_a_discount_of_zero_terminates():
    env: Any = make_factory("dmc:lqr-lqr_2_1").vector(1, 0)
    assert env.spec.max_steps is None
    inner = env.envs[0].unwrapped
    env.reset()
    out = env.step(np.zeros((1, 1), np.float32))
    assert not out.terminated[0] and not out.truncated[0]
    inner.control.physics.data.qpos[:] = 0  # at rest where it should be: the task is done
    inner.control.physics.data.qvel[:] = 0
    inner.control.physics.forward()
    out = env.step(np.zeros((1, 1), np.float32))
    assert out.terminated[0] and not out.truncated[0]
    assert not np.array_equal(out.obs, out.next_obs)


def test_seeds_decide_episodes():
    first = lambda seed: make_factory("dmc:reacher-easy").vector(2, seed).reset()
    np.testing.assert_array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))
    assert not np.array_equal(*first(1))


EXACT = [
    "cheetah-run?repeat=2", "reacher-hard", "walker-run", "finger-turn_hard", "hopper-hop",
    "humanoid-run", "swimmer-swimmer6", "point_mass-hard", "quadruped-fetch", "fish-swim",
]  # fmt: skip


@pytest.mark.parametrize("task", EXACT)
def test_state_is_exact(task):
    """Also across resets, which draw targets into the model."""
    factory = make_factory(f"dmc:{task}")
    one = factory.vector(2, 1)
    one.reset()
    moves = actions(one.spec, 60, 2)
    for t, action in enumerate(moves[:30]):
        if t == 10:
            one.reset()
        before = one.step(action)
    state = one.get_state()
    assert state.exact
    state = EnvState(dict(state.arrays), json.loads(json.dumps(state.meta)), True)

    def rest(env):
        outs = [env.step(action) for action in moves[30:45]]
        return [*outs, env.reset(), *(env.step(action) for action in moves[45:])]

    expected = rest(one)
    two = factory.vector(2, 99)
    two.reset()
    for _ in range(2):
        np.testing.assert_array_equal(two.set_state(state), before.obs)
        for left, right in zip(rest(two), expected, strict=True):
            for a, b in zip(left, right, strict=True):
                np.testing.assert_array_equal(a, b)
