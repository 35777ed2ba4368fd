"""Pure JAX environments get actions of their own space, at the face too."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.core.spec import Box, EnvSpec
from parl.envs.classic.cartpole import CartPole
from parl.envs.factory import from_jax
from parl.envs.native import Seen, translator


class Own:
    """Pays the sum of the action that it was given, of any shape."""

    def __init__(self, space: Box):
        self.spec = EnvSpec("own", Box((1,)), space, max_steps=3)

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), jnp.zeros(1)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        assert action.shape == self.spec.action_space.shape  # type: ignore[union-attr]
        time = state
        return time + 1, jnp.zeros(1), action.sum(), jnp.bool_(False), time >= 2


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (Box((1,), low=0.0, high=10.0), [0.5], 7.5),
        (Box((1,), low=0.0, high=10.0), [-9.0], 0.0),
        (Box((2, 2), low=-1.0, high=1.0), [0.1, 0.2, 0.3, 0.4], 1.0),
        (Box((), low=2.0, high=4.0), [-1.0], 2.0),
        (Box((1,), low=0.0), [-0.5], 0.5),  # half-bounded: -1 is the bound
    ],
)
def test_steps_and_the_face_take_the_same_action(
    space: Box, action: list[float], expected: float
) -> None:
    factory = from_jax(Own(space))
    network = np.array([action], np.float32)
    env = factory.vector(1, 0)
    env.reset()
    np.testing.assert_allclose(env.step(network).reward, [expected], rtol=1e-6)
    taken = translator(factory.spec).answer(network, Seen(None, True))
    assert taken.shape == space.shape
    np.testing.assert_allclose(taken.sum(), expected, rtol=1e-6)


@pytest.mark.parametrize("space", [Box((2,)), Box((2,), low=-1.0, high=1.0)])
def test_a_vector_in_the_networks_bounds_is_left_as_it_is(space: Box) -> None:
    env = Own(space)
    factory = from_jax(env)
    assert factory.jax is env and factory.spec == env.spec
    taken = translator(factory.spec).answer(np.array([[3, -0.5]], np.float32), Seen(None, True))
    np.testing.assert_array_equal(taken, [1, -0.5])


def test_discrete_actions_and_keys_pass() -> None:
    env = CartPole()
    assert from_jax(env).jax is env
    state, _ = from_jax(Own(Box((), low=0.0, high=1.0))).jax.reset(jax.random.key(0))  # type: ignore
    assert state == 0
