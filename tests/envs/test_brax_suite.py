"""Brax's environments behind the JaxEnv protocol: ids, ends of episodes, training."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.core.errors import EnvError, MissingPackage
from parl.core.spec import Box
from parl.envs import jax_vector
from parl.envs.factory import make_factory
from parl.envs.protocol import JaxEnv


def test_without_the_package_it_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "brax" else find(name)
    )
    with pytest.raises(MissingPackage) as caught:
        make_factory("brax:ant")
    assert str(caught.value) == "brax:ant needs Brax, which is not installed: pip install brax"


brax_envs = pytest.importorskip("brax.envs")
from parl.envs.adapters.brax_suite import Brax  # noqa: E402

NAME = "inverted_pendulum?backend=spring"


@pytest.fixture(scope="module")
def env():
    return Brax(NAME, max_steps=5)


def test_the_spec_of_an_environment(env):
    assert isinstance(env, JaxEnv)
    spec = make_factory(f"brax:{NAME}").spec
    assert (spec.id, spec.max_steps) == (f"brax:{NAME}", 1000)
    assert spec.observation_space == Box((4,)) and spec.action_space == Box((1,))


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("brax:inverted_pendulumm", "Did you mean inverted_pendulum?"),
        ("brax:ant?backend=bullet", "it can have backend=generalized, backend=spring,"),
        ("brax:ant?repeat=2", "has the options repeat=2"),
    ],
)
def test_ids_that_do_not_exist(id, message):
    with pytest.raises(EnvError) as caught:
        make_factory(id)
    assert message in str(caught.value)


@pytest.mark.filterwarnings("ignore:Brax System")
def test_steps_are_those_of_brax_and_the_limit_is_a_truncation(env):
    inner = brax_envs.get_environment("inverted_pendulum", backend="spring")
    key = jax.random.key(3)
    step, other = jax.jit(env.step), jax.jit(inner.step)
    state, obs = jax.jit(env.reset)(key)
    hand = jax.jit(inner.reset)(key)
    np.testing.assert_array_equal(obs, hand.obs)
    for t in range(5):
        action = jnp.array([0.01 * (-1) ** t])
        state, obs, reward, terminated, truncated = step(state, action, key)
        hand = other(hand, action)
        np.testing.assert_allclose(obs, hand.obs, rtol=1e-6)
        assert reward == hand.reward and not terminated
        assert truncated == (t == 4)


def test_a_fall_is_a_termination(env):
    long = Brax(NAME)
    vector = jax.jit(lambda key: jax_vector.reset(long, key, 2))(jax.random.key(0))
    step = jax.jit(lambda vector, action: jax_vector.autostep(long, vector, action))
    for _ in range(100):
        vector, out = step(vector, jnp.ones((2, 1)))
        if out.terminated.any():
            break
    assert out.terminated.any() and not out.truncated.any()
    ended = np.flatnonzero(out.terminated)[0]
    assert abs(out.next_obs[ended, 1]) > 0.2  # the pole's angle at which Brax ends an episode
    assert abs(out.obs[ended, 1]) < 0.1  # a fresh episode, opened in the same step


def test_it_trains_fused_and_resumes_bit_for_bit(tmp_path):
    import parl

    tiny = {
        "hidden": (8,), "num_envs": 2, "length": 8, "minibatches": 2, "epochs": 1,
        "eval_episodes": 1, "normalize_reward": False, "quiet": True,
    }  # fmt: skip
    env = Brax(NAME, max_steps=20)
    whole = parl.train("ppo", env, tmp_path / "whole", steps=96, anneal=False, **tiny)
    part = parl.train("ppo", env, tmp_path / "part", steps=48, anneal=False, **tiny)
    resumed = parl.resume(part.path, steps=96, env=env, quiet=True)
    assert resumed.result["params_sha256"] == whole.result["params_sha256"]
