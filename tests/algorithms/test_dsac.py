"""Discrete SAC with worked numbers: two actions, two critics, values in tables by state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from handmade import Function, steps

from parl import ops
from parl.algorithms.dsac import DSAC
from parl.algorithms.sac import SACState
from parl.core.spec import Discrete, EnvSpec

SPEC, KEY = EnvSpec("test", Discrete(2), Discrete(2)), jax.random.key(0)
# policies (1/4, 3/4) in state 0 and (1/2, 1/2) in state 1
ACTOR = Function(
    lambda table, obs: ops.Categorical(table[obs]), jnp.array([[0.0, np.log(3.0)], [1.0, 1.0]])
)
CRITICS = jnp.array([[[1.0, 2.0], [3.0, 4.0]], [[2.0, 1.0], [5.0, 0.0]]])  # [C, S, A]
TARGET = jnp.array([[[4.0, 8.0], [2.0, 6.0]], [[8.0, 4.0], [3.0, 5.0]]])
CRITIC = Function(lambda table, obs: table[:, obs], CRITICS)
BATCH = steps(obs=[0, 1], action=[1, 0], next_obs=[0, 1], reward=[1.0, -1.0], discount=[1.0, 0.0])
ALGORITHM = DSAC(actor=ACTOR, critic=CRITIC, gamma=0.5, initial_temperature=2.0, target_entropy=0.3)
ENTROPY = [np.log(4) - 0.75 * np.log(3), np.log(2)]


def initial() -> SACState:
    return ALGORITHM.init(KEY, SPEC).replace(target=TARGET)


def test_the_next_value_is_an_expectation() -> None:
    """State 0: the smaller critics are 4 and 4: the value is 4 + 2 * entropy; the other ended."""
    target = [1 + 0.5 * (4 + 2 * ENTROPY[0]), -1]
    taken = np.array([[2.0, 3.0], [1.0, 5.0]])  # [C, B]
    loss, (metrics, _) = ALGORITHM.critic_loss(CRITICS, initial(), BATCH, KEY, KEY)
    np.testing.assert_allclose(loss, 0.5 * ((taken - target) ** 2).mean(-1).sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["q"], taken.mean(), rtol=1e-6)


def test_the_policy_maximises_value_and_entropy() -> None:
    """The smaller critics are 1, 1 in state 0 and 3, 0 in state 1."""
    loss, (metrics, _) = ALGORITHM.actor_loss(ACTOR.params, initial(), BATCH, KEY, KEY)
    np.testing.assert_allclose(
        loss, -np.mean([1 + 2 * ENTROPY[0], 1.5 + 2 * ENTROPY[1]]), rtol=1e-5
    )
    np.testing.assert_allclose(metrics["entropy"], np.mean(ENTROPY), rtol=1e-5)


def test_a_whole_update_and_acting() -> None:
    state = initial()
    new, metrics = jax.jit(ALGORITHM.update)(state, BATCH, KEY)
    rises: Any = jax.grad(lambda x: ALGORITHM.alpha_loss(x, metrics["entropy"])[0])(jnp.float32(0))
    assert rises > 0 and new.alpha.params < state.alpha.params  # more entropy than is wanted
    assert new.updates == 1
    obs = jnp.zeros(4000, jnp.int32)
    best, _, _ = ALGORITHM.act(state.actor.params, obs, (), KEY, explore=False)
    drawn, _, _ = ALGORITHM.act(state.actor.params, obs, (), KEY, explore=True)
    assert (best == 1).all() and best.dtype == drawn.dtype == jnp.int32
    np.testing.assert_allclose(drawn.mean(), 0.75, atol=0.03)
