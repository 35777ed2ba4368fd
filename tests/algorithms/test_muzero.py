"""Gumbel MuZero: targets of windows by hand, and the transform of its numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl import ops
from parl.algorithms.muzero import MuZero
from parl.core.types import Step, Window
from parl.models.latent import unit_range
from parl.planning.gumbel import Search

BINS = 21


class Searched(MuZero):
    """Observations [.., 1] are the values of their states, and searches prefer action 1."""

    def value(self, params: Any, obs: Any) -> Any:
        return obs[..., 0]

    def search(self, params: Any, obs: Any, key: Any, simulations: int, noise: float) -> Search:
        policy = jnp.broadcast_to(jnp.array([0.25, 0.75]), (len(obs), 2))
        return Search(jnp.zeros(len(obs), int), policy, obs[..., 0])


def window(discount: list[float], last: list[bool], first: list[bool]) -> Window:
    """Five steps of rewards 1 .. 5, whose next observations are worth 10 .. 50."""
    obs, after = np.arange(5.0)[:, None] * 10, np.arange(1.0, 6)[:, None] * 10
    reward, flags = np.arange(1.0, 6), [np.array(x) for x in (discount, first, last)]
    step = Step(obs, np.ones(5, int), reward, flags[0], after, flags[1], flags[2], {})
    one = jax.tree.map(lambda x: jnp.asarray(x)[None], step)
    return Window(one, one, (), jnp.ones((1, 5), bool), {})


ALGORITHM = Searched(unroll=3, horizon=2, gamma=0.5)
NONE = [False] * 5


def test_values_are_returns_of_two_steps() -> None:
    """G_0 = 1 + 2 / 2 + 20 / 4 and so on; the last one has but the one step."""
    found = ALGORITHM.targets((), window([1.0] * 5, NONE, NONE), jax.random.key(0))
    assert found.value[:, 0].tolist() == [7.0, 2 + 1.5 + 7.5, 3 + 2 + 10, 4 + 2.5 + 12.5]
    assert found.reward[:, 0].tolist() == [1, 2, 3, 4]
    assert found.inside.all() and found.known.all()
    assert found.policy.shape == (4, 1, 2) and found.policy[2, 0].tolist() == [0.25, 0.75]


def test_what_follows_a_termination_is_worth_nothing() -> None:
    ends = window([1, 0, 1, 1, 1], [False, True, *NONE[:3]], [False, False, True, False, False])
    found = ALGORITHM.targets((), ends, jax.random.key(0))
    assert found.value[:, 0].tolist() == [1 + 1, 2, 0, 0]
    assert found.reward[:, 0].tolist() == [1, 2, 0, 0]
    assert found.inside[:, 0].tolist() == [True, True, False, False] and found.known.all()


def test_what_follows_a_cut_is_unknown() -> None:
    cut = window([1.0] * 5, [False, True, *NONE[:3]], [False, False, True, False, False])
    found = ALGORITHM.targets((), cut, jax.random.key(0))
    assert found.value[:2, 0].tolist() == [1 + 1 + 5, 2 + 10]
    assert found.inside[:, 0].tolist() == found.known[:, 0].tolist() == [True, True, False, False]


def test_numbers_are_represented_on_the_scale_of_a_root() -> None:
    """2.002 lies at h(2.002) = 0.7346 of a support of 21 values from -h(99) to h(99) = 9.099."""
    algorithm = MuZero(value_min=-99.0, value_max=99.0)
    values = algorithm.histogram(jnp.zeros(BINS))
    np.testing.assert_allclose([values.low, values.high], [-9.099, 9.099], rtol=1e-5)
    project = jax.jit(lambda x: values.project(ops.rescaled(x)[None], jnp.ones(1)))
    target = project(jnp.array(2.002))
    np.testing.assert_allclose(target[10:12], [1 - 0.73467 / 0.9099, 0.73467 / 0.9099], atol=1e-4)
    numbers = jnp.array([-99.0, -3.5, 0.0, 0.25, 60.0])
    number = jax.jit(jax.vmap(lambda x: algorithm.number(jnp.log(project(x) + 1e-12))))
    np.testing.assert_allclose(number(numbers), numbers, atol=2e-3)
    # half of the chance on the one bin that the number is: -log 1/2
    one = np.full(BINS, 1e-9, np.float32)
    one[[0, 10]] = 0.5
    distance = jax.jit(algorithm.distance)(np.log(one), jnp.array(0.0))
    np.testing.assert_allclose(distance, np.log(2), rtol=1e-4)


def test_latent_states_lie_between_0_and_1() -> None:
    np.testing.assert_allclose(unit_range(jnp.array([-1.0, 1.0, 3.0])), [0.0, 0.5, 1.0])
    assert unit_range(jnp.ones(3)).tolist() == [0.0, 0.0, 0.0]
