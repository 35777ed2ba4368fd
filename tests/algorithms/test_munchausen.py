"""Munchausen DQN with worked numbers: two actions, values in a table by state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from handmade import Function, steps

from parl.algorithms.munchausen import Munchausen
from parl.ops.value_distributions import Quantiles

KEY = jax.random.key(0)
# at a temperature of 1 the target's policies are (1/4, 3/4) and (1/2, 1/2)
TARGET = jnp.array([[0.0, np.log(3.0)], [2.0, 2.0]])
NET = jnp.array([[1.0, 2.0], [3.0, 4.0]])
Q = Function(lambda table, obs: table[obs["at"] if isinstance(obs, dict) else obs], NET)
BATCH = steps(obs=[0, 0, 1], action=[0, 1, 0], next_obs=[1, 0, 1], reward=[1.0, 2, 3])
SOFT = [2 + np.log(2), 0.75 * np.log(3) + (np.log(4) - 0.75 * np.log(3)), 2 + np.log(2)]


def targets(munchausen: float, batch: Any = BATCH, **settings: Any) -> Any:
    settings = {"entropy_temperature": 1.0, "log_policy_min": -10.0} | settings
    algorithm = Munchausen(q=Q, gamma=0.5, munchausen=munchausen, **settings)
    return algorithm.target(NET, TARGET, batch, KEY)


def test_without_the_bonus_it_is_soft_dqn() -> None:
    """The soft value is the mean under the policy plus its entropy: log 4 in state 0."""
    np.testing.assert_allclose(SOFT[1], np.log(4), rtol=1e-6)  # log sum exp
    expected = np.array([1, 2, 3]) + 0.5 * np.array(SOFT)
    np.testing.assert_allclose(targets(0.0), expected, rtol=1e-6)


def test_the_bonus_is_the_log_probability_of_the_action() -> None:
    expected = np.array([1, 2, 3]) + 0.5 * np.array(SOFT)
    bonus = np.log([1 / 4, 3 / 4, 1 / 2])
    np.testing.assert_allclose(targets(0.9), expected + 0.9 * bonus, rtol=1e-6)
    clipped = targets(0.9, log_policy_min=-0.5)
    np.testing.assert_allclose(clipped, expected + 0.9 * np.maximum(bonus, -0.5), rtol=1e-6)


def test_a_low_temperature_is_greedy() -> None:
    """Bonus 0 for the best action, the clip for the other, half of log 2 * 0.001 for equal ones."""
    found = targets(1.0, entropy_temperature=1e-3, log_policy_min=-0.25)
    np.testing.assert_allclose(found, [1 - 0.25 + 1, 2 + np.log(3) / 2, 3 + 1], atol=2e-3)


def test_illegal_actions_are_not_in_the_policy() -> None:
    """Action 0 alone is legal next, so the value is its own and the entropy 0."""
    all_legal, first = np.ones((3, 2), bool), np.tile([True, False], (3, 1))
    batch = BATCH._replace(
        obs={"at": BATCH.obs, "legal": all_legal}, next_obs={"at": BATCH.next_obs, "legal": first}
    )
    np.testing.assert_allclose(targets(0.0, batch), [1 + 1, 2, 3 + 1], rtol=1e-6)


def test_quantiles_are_averaged_level_by_level() -> None:
    """State 0: a quarter of (-1, 1) and three quarters of log 3 + (-1, 1)."""
    table = TARGET[..., None] + jnp.array([-1.0, 1.0])
    q = Function(lambda p, obs: Quantiles(p[obs]), table)
    algorithm = Munchausen(q=q, gamma=0.5, munchausen=0.0, entropy_temperature=1.0)
    target = algorithm.target(table, table, BATCH, KEY)
    np.testing.assert_allclose(target[1], 2 + 0.5 * (np.log(4) + np.array([-1, 1])), rtol=1e-6)
    loss, metrics = jax.jit(algorithm.loss)(table, table, BATCH, KEY)
    assert np.isfinite(loss) and metrics["td_error"].shape == (3,)
