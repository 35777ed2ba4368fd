"""Algorithms that learn from data: their limits are algorithms that are known, bit for bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl import ops
from parl.algorithms.awac import AWAC
from parl.algorithms.bc import BC
from parl.algorithms.cql import CQL
from parl.algorithms.implicit_q import ImplicitQ
from parl.algorithms.rebrac import ReBRAC
from parl.algorithms.sac import SAC
from parl.algorithms.td3 import TD3
from parl.algorithms.td3_bc import TD3BC
from parl.core.checkpoint import named_leaves
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Step
from parl.models import MLP, CategoricalPolicy, Critic, Ensemble, TanhNormalPolicy, Value
from parl.models.control import BoundedNormalPolicy, DeterministicPolicy

SPEC = EnvSpec("x", Box((3,)), Box((2,), low=-1.0, high=1.0))
TORSO, KEY = MLP((5,)), jax.random.key(0)
CRITIC: Any = Ensemble(Critic(SPEC.observation_space, TORSO), 2)
ACTOR = DeterministicPolicy(SPEC.observation_space, 2, TORSO)
STOCHASTIC = TanhNormalPolicy(SPEC.observation_space, 2, TORSO)
BOUNDED: Any = BoundedNormalPolicy(SPEC.observation_space, 2, TORSO)
VALUE = Value(SPEC.observation_space, TORSO)


def batch(count: int = 6, seed: int = 0) -> Step:
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    flags = np.arange(count) % 3 == 0
    discount = np.where(np.arange(count) % 2, 1.0, 0.0).astype(np.float32)
    actions = np.clip(normal(count, 2), -0.9, 0.9)
    extras = {"next_action": np.clip(normal(count, 2), -0.9, 0.9), "next_known": ~flags}
    return Step(
        normal(count, 3), actions, normal(count), discount, normal(count, 3), flags, flags, extras
    )


def after(algorithm: Any, updates: int = 4) -> dict[str, np.ndarray]:
    """What is learned in some updates."""
    state = algorithm.init(KEY, SPEC)
    update = jax.jit(type(algorithm).update)
    for i in range(updates):
        state, metrics = update(algorithm, state, batch(seed=i), jax.random.fold_in(KEY, i))
        assert all(np.isfinite(x).all() for x in metrics.values())
    return {name: np.asarray(x) for name, x in named_leaves(state).items()}


def differing(one: Any, other: Any) -> list[str]:
    ours, theirs = after(one), after(other)
    assert ours.keys() == theirs.keys()
    return [name for name, x in ours.items() if x.tobytes() != theirs[name].tobytes()]


def test_td3_bc_without_a_penalty_is_td3() -> None:
    plain = TD3(actor=ACTOR, critic=CRITIC)
    make = lambda penalty: TD3BC(actor=ACTOR, critic=CRITIC, penalty=penalty)
    assert differing(plain, make(0.0)) == []
    assert any("actor" in name for name in differing(plain, make(0.4)))


def test_rebrac_without_penalties_is_td3_with_the_least_value() -> None:
    make = lambda **settings: ReBRAC(actor=ACTOR, critic=CRITIC, **settings)
    only_actor = make(penalty=0.1, critic_penalty=0.0)
    both = make(penalty=0.1, critic_penalty=0.5)
    assert any("critic" in name for name in differing(only_actor, both))
    ours = after(make(penalty=0.0, critic_penalty=0.0), 1)
    theirs = after(TD3(actor=ACTOR, critic=CRITIC), 1)  # the first update is of the critic only
    assert all(x.tobytes() == theirs[name].tobytes() for name, x in ours.items())


def test_cql_without_conservatism_is_sac() -> None:
    plain = SAC(actor=STOCHASTIC, critic=CRITIC)
    make = lambda weight: CQL(actor=STOCHASTIC, critic=CRITIC, samples=3, conservatism=weight)
    assert differing(plain, make(0.0)) == []
    assert any("critic" in name for name in differing(plain, make(1.0)))


def test_policy_loss_of_td3_bc_by_hand() -> None:
    q, data = jnp.array([[2.0, -4.0], [9.0, 9.0]]), batch(2)
    action = data.action + np.array([[0.5, 0.5], [0.0, 1.0]], np.float32)
    away = (0.25 + 0.5) / 2  # the mean over components, then over the batch
    got = TD3BC(penalty=0.4).policy_loss(q, action, data)
    assert got == pytest.approx(1.0 + 0.4 * 3.0 * away)  # mean |q| is 3
    least = ReBRAC(penalty=0.4).policy_loss(q, action, data)
    assert least == pytest.approx(1.0 + 0.4 * 3.0 * (0.5 + 1.0) / 2)


def test_cost_of_rebrac_counts_only_actions_that_are_known() -> None:
    data = batch(4)
    next_action = data.extras["next_action"] + np.array([0.5, 1.0], np.float32)
    cost = ReBRAC(critic_penalty=2.0).next_cost(jnp.asarray(next_action), data)
    np.testing.assert_allclose(cost, np.where(data.extras["next_known"], 2.5, 0.0), rtol=1e-5)


class Uniform:
    """A critic with values that depend on the action alone: its first component times a number."""

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Uniform)

    def init(self, key: Any, *inputs: Any) -> Any:
        return {"params": {"w": jnp.zeros(())}}

    def apply(self, params: Any, *inputs: Any, **kwargs: Any) -> Any:
        return params["params"]["w"] * inputs[1][..., 0][None]


class Wide(Uniform):
    """A policy that is nearly uniform."""

    def apply(self, params: Any, *inputs: Any, **kwargs: Any) -> Any:
        return ops.TanhNormal(jnp.zeros((*inputs[0].shape[:-1], 2)), jnp.float32(-0.1))


def test_the_gap_of_cql_is_the_log_sum_exp_less_the_data() -> None:
    """Where all actions are worth w a: log of the mean of exp(w a) / density over actions."""
    algorithm = CQL(actor=Wide(), critic=Uniform(), samples=4_000)
    params = {"params": {"w": jnp.float32(1.5)}}
    data = batch(2)
    gap = jax.jit(algorithm.gap)(params, {}, data, KEY)
    # the integral of exp(w a) over the square: 2 * 2 sinh(w) / w, by three estimates of it
    wanted = np.log(2 * 2 * np.sinh(1.5) / 1.5) - 1.5 * data.action[:, 0].mean()
    assert gap == pytest.approx(wanted, abs=0.03)


def test_an_expectile_of_one_half_is_mean_regression() -> None:
    error = jnp.array([-2.0, 0.5, 3.0])
    np.testing.assert_allclose(ops.expectile_loss(error, 0.5), 0.5 * error**2)
    np.testing.assert_allclose(ops.expectile_loss(error, 0.9), [0.4, 0.225, 8.1], rtol=1e-6)
    algorithm = ImplicitQ(actor=BOUNDED, critic=CRITIC, value=VALUE, expectile=0.5)
    state, data = algorithm.init(KEY, SPEC), batch()
    q = CRITIC.apply(state.target, data.obs, data.action).min(0)

    def squared(params: Any) -> Any:
        return 0.5 * jnp.square(q - VALUE.apply(params, data.obs)).mean()

    got = jax.jit(jax.grad(lambda p: algorithm.value_loss(p, data, q)[0]))(state.value.params)
    wanted = jax.jit(jax.grad(squared))(state.value.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, wanted)


def test_implicit_q_backs_up_state_values_where_episodes_go_on() -> None:
    algorithm = ImplicitQ(actor=BOUNDED, critic=Uniform(), value=VALUE, gamma=0.5)
    data = batch()
    value = VALUE.init(KEY, data.next_obs)
    params = {"params": {"w": jnp.float32(0.3)}}
    loss, _ = jax.jit(algorithm.critic_loss)(params, value, data, KEY)
    target = data.reward + 0.5 * data.discount * VALUE.apply(value, data.next_obs)
    wanted = 0.5 * np.square(0.3 * data.action[:, 0] - target).mean()
    assert loss == pytest.approx(float(wanted), rel=1e-5)


def test_the_scale_of_rewards_is_that_of_the_data() -> None:
    """As if the data had been scaled."""
    make = lambda **settings: ImplicitQ(actor=BOUNDED, critic=CRITIC, value=VALUE, **settings)
    state, data = make().init(KEY, SPEC), batch()
    loss = jax.jit(lambda rule, data: rule.update(state, data, KEY)[1]["critic_loss"])
    wanted = loss(make(), data._replace(reward=np.float32(0.25) * data.reward))
    assert loss(make(reward_scale=0.25), data) == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_actions_are_weighed_by_their_advantage(beta: float) -> None:
    """Without a temperature, cloning; with one, exp(beta A), at most the largest weight."""
    algorithm = AWAC(actor=BOUNDED, critic=CRITIC, inverse_temperature=beta, largest_weight=5.0)
    data, advantage = batch(3), jnp.array([-1.0, 0.0, 3.0])
    params = BOUNDED.init(KEY, data.obs)
    weight = np.minimum(np.exp(beta * advantage), 5.0)
    wanted = -(weight * BOUNDED.apply(params, data.obs).log_prob(data.action)).mean()
    loss, _ = algorithm.actor_loss(params, data, advantage, KEY)
    assert loss == pytest.approx(float(wanted), rel=1e-5)


def test_bc_learns_the_recorded_actions() -> None:
    """Numbers by their distance, choices by their likelihood."""
    algorithm, data = BC(actor=ACTOR, learning_rate=0.03), batch(16)
    state = algorithm.init(KEY, SPEC)
    recorded = data._replace(action=data.obs[:, :2] * 0.2)
    update = jax.jit(lambda s: algorithm.update(s, recorded, KEY))
    for _ in range(300):
        state, metrics = update(state)
    assert metrics["loss"] < 1e-3
    actions, _, _ = algorithm.act(algorithm.policy(state), data.obs, (), KEY, explore=True)
    np.testing.assert_allclose(actions, recorded.action, atol=0.1)
    spec = EnvSpec("y", Box((3,)), Discrete(2))
    choosing = BC(actor=CategoricalPolicy(Box((3,)), Discrete(2), TORSO), learning_rate=0.03)
    state, choices = choosing.init(KEY, spec), (data.obs[:, 0] > 0).astype(np.int32)
    step = jax.jit(lambda s: choosing.update(s, data._replace(action=choices), KEY))
    first = choosing.loss(state.actor.params, data._replace(action=choices), KEY)[0]
    assert first == pytest.approx(np.log(2), abs=0.02)
    for _ in range(200):
        state, _ = step(state)
    chosen, _, _ = choosing.act(choosing.policy(state), data.obs, (), KEY, explore=False)
    np.testing.assert_array_equal(chosen, choices)
