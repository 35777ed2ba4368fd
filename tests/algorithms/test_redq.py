"""REDQ's random targets with worked numbers, and DroQ's dropout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from critical import ACTOR, BATCH, KEY, SPEC, critic_loss
from handmade import Function

from parl.algorithms.redq import REDQ
from parl.models import MLP, Critic, Ensemble
from parl.models.torsos import DropoutMLP

# ten critics whose value is their parameter, and of the action
CRITIC = Function(lambda p, obs, action: p[:, None] + action[None, :, 0], jnp.arange(10.0))
ALGORITHM = REDQ(actor=ACTOR, critic=CRITIC, gamma=0.5, initial_temperature=2.0, target_entropy=1.5)


def next_values(subset: int, draws: int = 2000) -> np.ndarray:
    """Values [draws] of the first sample's next state under targets 0 .. 9 and action 0."""
    rule = ALGORITHM.replace(subset=subset)

    def draw(key: Any) -> Any:
        action = jnp.zeros((2, 1))
        _, values, _ = rule.critic_values(CRITIC.params, jnp.arange(10.0), BATCH, action, key)
        assert values.mean.shape == (subset, 2), "no other critics are evaluated"
        return rule.next_value(values).mean[0]

    return np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(KEY, draws)))


def test_target_is_the_least_of_two_drawn_critics() -> None:
    """P(min = m) of 2 of 0 .. 9 without replacement is (9 - m) / 45, of mean 8/3."""
    values = next_values(2).astype(int)
    share = np.bincount(values, minlength=10) / len(values)
    np.testing.assert_allclose(share, np.arange(9, -1, -1) / 45, atol=0.03)


def test_fewer_critics_in_the_target_mean_less_pessimism() -> None:
    """The control of the bias: one is unbiased, 4.5; all give the minimum, 0."""
    np.testing.assert_allclose(next_values(1).mean(), 4.5, atol=0.3)
    np.testing.assert_allclose(next_values(2).mean(), 8 / 3, atol=0.2)
    np.testing.assert_array_equal(next_values(10), 0)


def test_all_critics_learn_from_one_target() -> None:
    """With equal targets of 4: 1 + 0.5 * (4 + 1 + 2 * 2.5) = 6 at next action 1, and -1."""
    loss, _ = critic_loss(ALGORITHM, CRITIC.params, jnp.full(10, 4.0))
    q = np.arange(10)[:, None] + [0.5, -0.5]
    np.testing.assert_allclose(loss, 0.5 * ((q - [6, -1]) ** 2).mean(-1).sum(), rtol=1e-6)


def test_policy_maximises_the_mean_of_all() -> None:
    """Actions 0.5 and 1 on top of 4.5."""
    state = ALGORITHM.init(KEY, SPEC)
    loss, _ = ALGORITHM.actor_loss(jnp.float32(0.5), state, BATCH, KEY, KEY)
    np.testing.assert_allclose(loss, 2 * -2.5 - (4.5 + 0.75), rtol=1e-6)


def test_an_ensemble_evaluates_the_drawn_members_only() -> None:
    critic = Ensemble(Critic(SPEC.observation_space, MLP((4,))), 5)
    rule = REDQ(critic=critic, subset=2)
    target = critic.init(KEY, SPEC.obs, SPEC.action)
    action = jnp.full((2, 1), 0.3)
    values, chosen, _ = rule.critic_values(target, target, BATCH, action, jax.random.key(1))
    everyone = np.asarray(critic.apply(target, BATCH.next_obs, action))
    assert values.mean.shape == (5, 2) and chosen.mean.shape == (2, 2)
    members = [int(np.abs(everyone - row).sum(-1).argmin()) for row in np.asarray(chosen.mean)]
    assert len(set(members)) == 2
    np.testing.assert_allclose(chosen.mean, everyone[members], rtol=1e-5)


def test_dropout_makes_two_critics_many() -> None:
    """DroQ: the target and the policy's critics differ from update to update."""

    def values(rate: float, key: int) -> np.ndarray:
        critic = Ensemble(Critic(SPEC.observation_space, DropoutMLP((32,), rate)), 2)
        params = critic.init(KEY, SPEC.obs, SPEC.action)
        action, k = jnp.full((2, 1), 0.3), jax.random.key(key)
        now, following, _ = REDQ(critic=critic).critic_values(params, params, BATCH, action, k)
        return np.sort(np.concatenate([now.mean, following.mean], -1), 0)

    np.testing.assert_allclose(values(0.0, 1), values(0.0, 2), rtol=1e-5)
    assert (np.abs(values(0.5, 1) - values(0.5, 2)) > 1e-4).all()
