"""TQC's target and objective with worked numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from critical import ACTOR, BATCH, KEY, SPEC, critic_loss
from handmade import Function

from parl.algorithms.tqc import TQC
from parl.ops.value_distributions import Point, Quantiles

# two critics of two quantiles, p_{ck} obs + action
CRITIC = Function(
    lambda p, obs, action: Quantiles(p[:, None, :] * obs[None] + action[None]),
    jnp.array([[0.0, 1.0], [0.0, 2.0]]),
)
TARGET = jnp.array([[1.0, 2.0], [0.0, 3.0]])
ALGORITHM = TQC(
    actor=ACTOR, critic=CRITIC, gamma=0.5, drop=1, initial_temperature=2.0, target_entropy=1.5
)


def test_target_is_the_truncated_mixture() -> None:
    """Next action 1 at obs 2: quantiles 3, 5 and 1, 7, of which the larger two are dropped.

    So the first sample's atoms are 1 + 0.5 * ((1, 3) + 2 * 2.5) = 4, 5; the second ended: -1.
    """
    values = CRITIC.apply(CRITIC.params, BATCH.obs, BATCH.action)
    expected = values.loss(jnp.array([[4.0, 5.0], [-1.0, -1.0]])).mean(-1).sum()
    loss, metrics = critic_loss(ALGORITHM, CRITIC.params, TARGET)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    # means of the values: action + obs * (0.5, 1)
    np.testing.assert_allclose(metrics["q"], np.mean([[1, 0.5], [1.5, 1.5]]), rtol=1e-6)


def test_dropping_more_lowers_the_target() -> None:
    """Truncation is the control of overestimation: 1 + 0.5 * (mean + 5) for 0 and 1 dropped."""
    values = CRITIC.apply(TARGET, BATCH.next_obs[:1], jnp.array([[1.0]]))
    means = [ALGORITHM.replace(drop=drop).next_value(values).mean.item() for drop in (0, 1)]
    assert means == [4.0, 2.0]


def test_policy_maximises_the_mean_of_all_quantiles() -> None:
    """Actions 0.5, 1 at obs 1, 2; mean of p obs + action = 0.75 obs + action."""
    state = ALGORITHM.init(KEY, SPEC)
    loss, _ = ALGORITHM.actor_loss(jnp.float32(0.5), state, BATCH, KEY, KEY)
    np.testing.assert_allclose(loss, 2 * -2.5 - np.mean([1.25, 2.5]), rtol=1e-6)


def test_one_update() -> None:
    state = ALGORITHM.init(KEY, SPEC)
    after, metrics = jax.jit(ALGORITHM.update)(state, BATCH, KEY)
    assert np.isfinite(metrics["critic_loss"]) and metrics["td_error"].shape == (2,)
    assert (after.critic.params != state.critic.params).all()


def test_critics_must_be_of_quantiles() -> None:
    with pytest.raises(AssertionError, match="TQC's critics return Quantiles"):
        ALGORITHM.next_value(Point(jnp.zeros((2, 3))))
