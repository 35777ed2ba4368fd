"""OAC's shifted exploration with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from critical import KEY, SPEC
from handmade import Function

from parl import ops
from parl.algorithms.oac import OAC
from parl.algorithms.sac import SAC
from parl.models import MLP, Critic, Ensemble, TanhNormalPolicy

# mean 0.5 in both dimensions, standard deviations 1 and 2
MEAN, STD = np.arctanh([0.5, 0.5]), np.array([1.0, 2.0])
ACTOR = Function(
    lambda p, obs: ops.TanhNormal(
        jnp.broadcast_to(jnp.asarray(MEAN, jnp.float32), (len(obs), 2)), jnp.log(jnp.asarray(STD))
    )
)
# two critics: 2 a_1 + a_2 and a_1 + 3 a_2
WEIGHTS = jnp.array([[2.0, 1.0], [1.0, 3.0]])
CRITIC = Function(lambda p, obs, action: jnp.einsum("ca,ba->cb", p, action), WEIGHTS)
RULE = OAC(actor=ACTOR, critic=CRITIC, optimism=2.0, shift=0.7)
OBS = jnp.zeros((3, 1))


def test_upper_bound() -> None:
    """At (0.5, 0.5): 1.5 and 2, so mean 1.75 and standard deviation 0.25."""
    pi = ACTOR.apply(None, OBS)
    np.testing.assert_allclose(RULE.upper_bound(pi, WEIGHTS, OBS), [2.25] * 3, rtol=1e-5)


def test_shift_of_the_mean() -> None:
    """Gradient of mean + 2 |q_1 - q_2| / 2: (1.5, 2) + (-1, 2), times tanh' = 1 - 0.25.

    The shift is 0.7 * Sigma g / sqrt(g' Sigma g), with Sigma = diag(1, 4).
    """
    g = np.array([0.5, 4.0]) * 0.75
    expected = MEAN + 0.7 * STD**2 * g / np.sqrt((g**2 * STD**2).sum())
    shifted = RULE.shifted(ACTOR.apply(None, OBS), WEIGHTS, OBS)
    np.testing.assert_allclose(shifted.mean, np.stack([expected] * 3), rtol=1e-4)
    np.testing.assert_allclose(jnp.exp(shifted.log_std), STD, rtol=1e-6)


def test_the_shift_is_as_long_as_the_constraint_allows() -> None:
    """KL(exploration || target) = delta = shift^2 / 2 before the tanh."""
    pi = ACTOR.apply(None, OBS)
    shifted = RULE.shifted(pi, WEIGHTS, OBS)
    kl = ops.Normal(shifted.mean, pi.log_std).kl(ops.Normal(pi.mean, pi.log_std))
    np.testing.assert_allclose(kl, [0.7**2 / 2] * 3, rtol=1e-4)


def test_critics_that_agree_give_their_gradient() -> None:
    same = jnp.array([[2.0, 1.0], [2.0, 1.0]])
    shifted = RULE.shifted(ACTOR.apply(None, OBS), same, OBS)
    g = np.array([2.0, 1.0]) * 0.75
    expected = MEAN + 0.7 * STD**2 * g / np.sqrt((g**2 * STD**2).sum())
    np.testing.assert_allclose(shifted.mean[0], expected, rtol=1e-4)


def test_optimism_turns_towards_disagreement() -> None:
    """The second action, on which critics disagree most, gains over the first."""
    pi = ACTOR.apply(None, OBS)
    steps = [
        np.asarray(RULE.replace(optimism=beta).shifted(pi, WEIGHTS, OBS).mean - pi.mean)[0]
        for beta in (0.0, 2.0, 5.0)
    ]
    ratios = [step[1] / np.abs(step[0]) for step in steps]
    assert ratios[1] > 2 * ratios[0]
    assert steps[2][0] < 0 < steps[1][0], "even against the first's mean value"


def real(kind: Any, **settings: Any) -> Any:
    space = SPEC.observation_space
    critic = Ensemble(Critic(space, MLP((8,))), 2)
    return kind(actor=TanhNormalPolicy(space, 1, MLP((8,))), critic=critic, **settings)


def test_exploration_is_shifted_and_the_greedy_action_is_not() -> None:
    rule, sac = real(OAC), real(SAC)
    state, obs = rule.init(KEY, SPEC), jnp.linspace(0.5, 1, 5)[:, None]
    acting = lambda rule, explore: rule.act(rule.policy(state), obs, (), KEY, explore)[0]
    act = jax.jit(acting, static_argnums=1)
    np.testing.assert_array_equal(act(rule, False), act(sac, False))
    assert (np.abs(act(rule, True) - act(sac, True)) > 1e-3).all()
    np.testing.assert_array_equal(act(rule.replace(shift=0.0), True), act(sac, True))


def test_actors_get_the_critics_too() -> None:
    rule = real(OAC)
    state = rule.init(KEY, SPEC)
    policy = rule.policy(state)
    assert policy["actor"] is state.actor.params and policy["critic"] is state.critic.params
