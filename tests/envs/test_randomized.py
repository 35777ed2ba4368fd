"""Parameters drawn anew at each reset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.core.errors import ConfigError, EnvError
from parl.envs.classic.cartpole import CartPole
from parl.envs.classic.pendulum import Pendulum
from parl.envs.factory import make_factory, randomized
from parl.envs.randomized import Randomized, Range, ranges_of

LENGTHS = (Range("length", 0.4, 0.6),)


def test_ranges_are_read_and_checked() -> None:
    assert ranges_of(["length=0.4:0.6", "max_steps=10:20"]) == (
        Range("length", 0.4, 0.6),
        Range("max_steps", 10.0, 20.0),
    )
    for bad in ("length", "length=1", "length=2:1", "length=nan:1", "a b=1:2", "=1:2"):
        with pytest.raises(ConfigError, match="NAME=LOW:HIGH"):
            ranges_of([bad])
    with pytest.raises(ConfigError, match="'length' twice"):
        ranges_of(["length=1:2", "length=1:3"])


def test_an_episode_has_the_dynamics_of_its_own_parameters() -> None:
    env, key = Randomized(Pendulum(), LENGTHS), jax.random.key(3)
    state, obs = env.reset(key)
    length = float(state.parameters["length"])
    assert 0.4 <= length <= 0.6
    same, its_obs = Pendulum(length=length).reset(jax.random.split(key)[0])
    np.testing.assert_array_equal(obs, its_obs)
    action = jnp.array([0.7])
    after = env.step(state, action, key)
    expected = Pendulum(length=length).step(same, action, key)
    np.testing.assert_allclose(after[1], expected[1], rtol=1e-6)
    assert float(after[2]) == pytest.approx(float(expected[2]), rel=1e-6)
    assert float(after[0].parameters["length"]) == length


def test_parameters_can_be_given_and_differ_from_reset_to_reset() -> None:
    env = Randomized(CartPole(), LENGTHS)
    given = env.reset(jax.random.key(0), {"length": jnp.float32(0.45)})[0]
    assert float(given.parameters["length"]) == np.float32(0.45)
    drawn = jax.vmap(lambda key: env.reset(key)[0].parameters["length"])(
        jax.random.split(jax.random.key(1), 200)
    )
    assert len(np.unique(drawn)) > 190
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.02)
    assert 0.4 <= float(drawn.min()) < 0.42 and 0.58 < float(drawn.max()) <= 0.6


def test_whole_numbers_stay_whole() -> None:
    env = Randomized(CartPole(), (Range("max_steps", 3, 5),))
    limits = [int(env.reset(jax.random.key(k))[0].parameters["max_steps"]) for k in range(20)]
    assert set(limits) == {3, 4, 5}


def test_gymnasiums_environments_draw_theirs_from_their_seeds() -> None:
    vector = randomized(make_factory("CartPole-v1"), ["length=0.4:0.6"]).vector(3, 0, 0)
    vector.reset()
    lengths = [env.unwrapped.length for env in vector.envs]  # pyright: ignore
    assert len(set(lengths)) == 3 and all(0.4 <= x <= 0.6 for x in lengths)
    again = randomized(make_factory("CartPole-v1"), ["length=0.4:0.6"]).vector(3, 0, 0)
    again.reset()
    assert [env.unwrapped.length for env in again.envs] == lengths  # pyright: ignore
    vector.reset()
    assert [env.unwrapped.length for env in vector.envs] != lengths  # pyright: ignore
    assert not vector.get_state().exact


@pytest.mark.parametrize("id", ["jax:CartPole-v1", "CartPole-v1"])
def test_an_environment_without_the_parameter_is_an_error_at_the_start(id: str) -> None:
    with pytest.raises(EnvError, match=r"no (number|parameter) 'weight'"):
        randomized(make_factory(id), ["weight=1:2"])
