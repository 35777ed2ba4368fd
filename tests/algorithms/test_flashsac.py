"""FlashSAC: networks that are normalised by current and next steps together."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from critical import BATCH, KEY, SPEC

from parl.algorithms.flashsac import FlashSAC
from parl.models import Ensemble, modes
from parl.models.control import Critic, SquashedNormalPolicy
from parl.models.torsos import FlashTorso
from parl.ops.value_distributions import Histogram

SPACE = SPEC.observation_space
ACTOR = SquashedNormalPolicy(SPACE, 1, FlashTorso(8, 1))
CRITIC = Ensemble(Critic(SPACE, FlashTorso(8, 1), 11, lambda x: Histogram(x, -5.0, 5.0)), 2)
RULE = FlashSAC(actor=ACTOR, critic=CRITIC, policy_period=2)
OBS = np.concatenate([BATCH.obs, BATCH.next_obs])


@pytest.fixture(scope="module")
def state() -> Any:
    state = jax.jit(lambda key: RULE.init(key, SPEC))(KEY)
    return state.replace(target=jax.tree.map(lambda x: 0.9 * x, state.target))


def test_both_networks_see_both_batches(state: Any) -> None:
    next_action = jnp.array([[0.9], [-0.7]])
    action = np.concatenate([BATCH.action, next_action])
    now, following, new = RULE.critic_values(
        state.critic.params, state.target, BATCH, next_action, KEY
    )
    for values, params, part in ((now, state.critic.params, 0), (following, state.target, 1)):
        whole, _ = modes.train(CRITIC, params, OBS, action, key=KEY)
        expected = whole.mean[:, 2 * part : 2 * part + 2]
        np.testing.assert_allclose(values.mean, expected, rtol=1e-5)
    first = new["batch_stats"]["member"]["torso"]["BatchNorm_0"]
    inputs = np.concatenate([OBS, action], -1)
    np.testing.assert_allclose(first["mean"][0], 0.01 * inputs.mean(0), rtol=1e-5)


def test_the_policy_sees_both_batches_and_proposes_for_one(state: Any) -> None:
    pi, new = RULE.policy_of(state.actor.params, BATCH, KEY)
    whole, _ = modes.train(ACTOR, state.actor.params, OBS, key=KEY)
    assert pi.mean.shape == (2, 1)
    np.testing.assert_allclose(pi.mean, whole.mean[:2], rtol=1e-5)
    first = new["batch_stats"]["torso"]["BatchNorm_0"]
    np.testing.assert_allclose(first["mean"], 0.01 * OBS.mean(0), rtol=1e-5)


@pytest.mark.slow
def test_weights_stay_bounded(state: Any) -> None:
    """After two updates every fixed norm holds, in the critics and in the actor."""
    update = jax.jit(RULE.update)
    for i in range(2):
        state, metrics = update(state, BATCH, jax.random.key(i))
    assert np.isfinite(metrics["critic_loss"])
    for params in (state.actor.params, state.critic.params):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            modes.project(params),
            params,
        )
    kernel = state.critic.params["params"]["member"]["torso"]["UnitDense_0"]["unit_kernel"]
    np.testing.assert_allclose((kernel**2).sum(-2), np.ones((2, 8)), rtol=1e-5)
