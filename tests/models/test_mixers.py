"""Mixers: what they make of the agents' values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.models.mixers import Independent, QMixer, Sum

Q, STATE = jnp.array([[1.0, 2.0], [3.0, -4.0]]), jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])


def test_the_sum_and_none() -> None:
    assert Sum().init(jax.random.key(0), Q, STATE) == Independent().init(
        jax.random.key(0), Q, STATE
    )
    np.testing.assert_array_equal(Sum().apply({}, Q, STATE), [3, -1])
    np.testing.assert_array_equal(Independent().apply({}, Q, STATE), Q)


def test_qmix_is_monotone_in_every_agents_value() -> None:
    mixer, many = QMixer(features=4, hidden=5), jax.random.normal(jax.random.key(1), (500, 2)) * 3
    states = jax.random.normal(jax.random.key(2), (500, 3))
    for seed in range(3):
        params = mixer.init(jax.random.key(seed), Q, STATE)
        slope = jax.vmap(jax.grad(lambda q, s, p=params: mixer.apply(p, q, s)))(many, states)
        assert slope.shape == (500, 2) and (slope >= 0).all() and (slope > 0).mean() > 0.9
        assert slope.std() > 0.3 * slope.mean(), "and not a sum"


def test_qmix_expects_little_of_far_states_before_it_has_seen_any() -> None:
    """Absolute values make the joint value of drawn weights positive where the state is large."""
    mixer: Any = QMixer()
    states = 10 * jax.random.normal(jax.random.key(2), (500, 54))
    params = mixer.init(jax.random.key(0), jnp.zeros((500, 3)), states)
    assert jnp.abs(mixer.apply(params, jnp.zeros((500, 3)), states)).mean() < 5


def test_leading_axes_are_free() -> None:
    mixer: Any = QMixer(features=4, hidden=5)
    params = mixer.init(jax.random.key(0), Q, STATE)
    once = mixer.apply(params, Q, STATE)
    many = mixer.apply(params, jnp.stack([Q] * 3), jnp.stack([STATE] * 3))
    np.testing.assert_allclose(many[2], once, rtol=1e-6)
