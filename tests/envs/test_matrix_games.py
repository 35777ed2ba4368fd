from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.envs.factory import make_factory

KEY = jax.random.key(0)
PAYOFFS = {
    "jax:climbing": [[11, -30, 0], [-30, 7, 6], [0, 0, 5]],
    "jax:penalty": [[10, 0, -100], [0, 2, 0], [-100, 0, 10]],
}


def make(id: str) -> Any:
    return make_factory(id).jax


@pytest.mark.parametrize("id", PAYOFFS)
def test_one_joint_action_ends_the_game_and_pays_the_matrix(id: str) -> None:
    env = make(id)
    for joint in np.ndindex(3, 3):
        state, obs = env.reset(KEY)
        np.testing.assert_array_equal(obs["view"], np.ones((2, 1)))
        _, _, reward, terminated, truncated = env.step(state, jnp.array(joint), KEY)
        payoff = PAYOFFS[id][joint[0]][joint[1]]
        np.testing.assert_allclose(reward, [payoff / 2] * 2)
        assert terminated and not truncated and env.spec.max_steps == 1


CHOICES = [((0, 0), (1, 1), 7), ((0, 1), (0, 0), 7)]
CHOICES += [((1, b), (i, j), 8 * i * j or i + j) for b, i, j in np.ndindex(2, 2, 2)]


@pytest.mark.parametrize("first, second, payoff", CHOICES)
def test_two_step_game(first: Any, second: Any, payoff: float) -> None:
    env = make("jax:two_step")
    state, obs = env.reset(KEY)
    np.testing.assert_array_equal(obs["view"], [[1, 0, 0]] * 2)
    state, obs, reward, terminated, truncated = env.step(state, jnp.array(first), KEY)
    np.testing.assert_array_equal(obs["view"], [np.eye(3)[1 + first[0]]] * 2)
    np.testing.assert_array_equal(obs["state"], np.eye(3)[1 + first[0]])
    assert not terminated and not truncated and not np.asarray(reward).any()
    _, _, reward, terminated, truncated = env.step(state, jnp.array(second), KEY)
    assert float(reward.sum()) == payoff and terminated and not truncated
