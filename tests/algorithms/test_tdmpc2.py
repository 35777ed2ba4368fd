"""TD-MPC2: planning, values in symlog, and the losses along windows, with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.algorithms.tdmpc2 import TDMPC2
from parl.core.errors import ConfigError
from parl.core.spec import Box, EnvSpec
from parl.core.types import Step, Window
from parl.models.simplices import mish, simplices
from parl.ops.value_distributions import SymlogTwoHot
from parl.planning.mppi import following, mppi
from parl.recipes import make_recipe

KEY = jax.random.key(0)


def test_a_plan_finds_the_best_actions() -> None:
    """Of two environments, the best sequences are 0.5 and -0.3 throughout."""
    best = jnp.array([0.5, -0.3])[:, None, None]
    evaluate = lambda actions: -10 * ((actions - best) ** 2).sum((-1, -2))
    start, proposals = jnp.zeros((2, 3, 1)), jnp.zeros((4, 2, 3, 1))
    options: dict[str, Any] = {"samples": 200, "elites": 20, "iterations": 6}
    plan = mppi(evaluate, start, KEY, proposals=proposals, **options)
    np.testing.assert_allclose(plan.mean, jnp.broadcast_to(best, (2, 3, 1)), atol=0.08)
    np.testing.assert_allclose(plan.std, 0.05, atol=0.05)


def test_a_proposal_that_is_best_is_taken() -> None:
    """Nothing but the proposal is worth anything, and one elite is kept."""
    proposal = jnp.full((1, 1, 2, 1), 0.123)
    evaluate = lambda actions: -1e3 * jnp.abs(actions - 0.123).sum((-1, -2))
    options: dict[str, Any] = {"samples": 5, "elites": 1, "iterations": 1}
    plan = mppi(evaluate, jnp.zeros((1, 2, 1)), KEY, proposals=proposal, **options)
    np.testing.assert_allclose(plan.mean, proposal[0], rtol=1e-6)
    np.testing.assert_allclose(plan.std, 0.05, rtol=1e-6)  # the least
    np.testing.assert_allclose(plan.drawn(KEY), [[0.123]], rtol=1e-6)


def test_actions_are_drawn_by_the_weight_of_their_sequences() -> None:
    """Where -1 and 1 are best alike, either is taken, and never the useless mean; 1 by e to 1."""
    evaluate = lambda actions: 20 * jnp.abs(actions).sum((-1, -2)) + actions.mean((-1, -2))
    options: dict[str, Any] = {"samples": 64, "elites": 48, "iterations": 1, "temperature": 0.5}
    proposals = jnp.zeros((1, 1, 1, 1))
    plan = mppi(evaluate, jnp.zeros((1, 1, 1)), KEY, proposals=proposals, max_std=9.0, **options)
    drawn = np.asarray(jax.vmap(plan.drawn)(jax.random.split(KEY, 2000)))[:, 0, 0]
    assert set(drawn) == {-1.0, 1.0}
    ups = (plan.elites[:, 0, 0, 0] == 1).sum()
    share = ups * np.e / (ups * np.e + 48 - ups)
    np.testing.assert_allclose((drawn == 1).mean(), share, atol=0.04)


def test_mish() -> None:
    x = jnp.array([-30.0, -1.0, 0.0, 1.0, 30.0, 200.0])
    expected = x * np.tanh(np.logaddexp(0.0, x))
    np.testing.assert_allclose(mish(x), expected, rtol=1e-5, atol=1e-11)
    slopes = jax.vmap(jax.grad(mish))(x)
    np.testing.assert_allclose(slopes[2:], [0.6, 1.04906, 1.0, 1.0], rtol=1e-4)


def test_the_next_plan_starts_one_step_on() -> None:
    mean = jnp.array([[[1.0], [2.0], [3.0]]])
    np.testing.assert_array_equal(following(mean)[0, :, 0], [2.0, 3.0, 0.0])


def test_latents_are_simplices() -> None:
    out = simplices(jnp.arange(16.0).reshape(1, 16))
    np.testing.assert_allclose(out.reshape(2, 8).sum(-1), [1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(out[0, :8], out[0, 8:], rtol=1e-6)  # same differences


def test_values_in_symlog() -> None:
    """Five values in symlog from -2 to 2; a target of e^0.25 - 1 lies at 0.25 of 0 .. 1."""
    certain = jnp.where(jnp.arange(5) == 3, 50.0, 0.0)
    value = SymlogTwoHot(certain, low=-2.0, high=2.0)
    np.testing.assert_allclose(value.mean, np.e - 1, rtol=1e-5)
    target = value.backup(jnp.float32(np.exp(0.25) - 1), jnp.float32(0.0))
    np.testing.assert_allclose(target, [0, 0, 0.75, 0.25, 0], atol=1e-6)
    target = value.backup(jnp.float32(0.5), jnp.float32(0.5))  # 0.5 + 0.5 (e - 1)
    np.testing.assert_allclose((target * value.support).sum(), np.log1p(np.e / 2), rtol=1e-5)


SPEC = EnvSpec("Swing-v0", Box((3,)), Box((1,), low=-1.0, high=1.0), max_steps=200)
TINY: dict[str, Any] = {"width": 8, "latent": 8, "num_critics": 3, "bins": 11}
TINY |= {"sequences": 8, "proposals": 2, "elites": 3, "iterations": 2}


@pytest.fixture(scope="module")
def made() -> tuple[TDMPC2, Any, Window]:
    """A tiny algorithm, its first state and a batch of four windows."""
    recipe = make_recipe("tdmpc2", SPEC).override(TINY)
    rule: Any = recipe.learner(SPEC, 10_000, 1).algorithm
    state = jax.jit(rule.init, static_argnums=1)(KEY, SPEC)
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    flag = np.zeros((4, 3), bool)
    steps = Step(
        normal(4, 3, 3),
        normal(4, 3, 1).clip(-1, 1),
        normal(4, 3),
        np.ones((4, 3), np.float32),
        normal(4, 3, 3),
        flag,
        flag,
        {},
    )
    before = jax.tree.map(lambda x: x[:, :0], steps)
    return rule, state, Window(before, steps, (), np.ones((4, 3), bool), {})


def test_untrained_heads_say_zero(made: Any) -> None:
    """Rewards and values start at 0, so a plan's return is 0 whatever is done."""
    rule, state, _ = made
    policy = rule.policy(state)
    latent = rule.encoder.apply(policy["encoder"], jnp.ones((2, 3)))
    critic = rule.drawn(policy["critic"], KEY)
    assert {x.shape[0] for x in jax.tree.leaves(critic)} == {2}
    actions = jax.random.uniform(KEY, (8, 2, 3, 1))
    returns = jax.jit(rule.returns)(policy, critic, latent, actions, KEY)
    np.testing.assert_allclose(returns, np.zeros((8, 2)), atol=1e-5)


def test_what_follows_an_episode_is_not_learned_from(made: Any) -> None:
    """The third step of the first window is of the next episode: its reward changes no loss."""
    rule, state, batch = made
    opened = batch.steps.first.copy()
    opened[0, 2] = True
    steps = batch.steps._replace(first=opened)
    other = batch.steps.reward.copy()
    other[0, 2] += 100
    loss = jax.jit(lambda b: rule.model_loss(state.model.params, state, b, KEY)[0])
    one = loss(batch._replace(steps=steps))
    np.testing.assert_array_equal(one, loss(batch._replace(steps=steps._replace(reward=other))))
    assert one != loss(batch)


def test_an_update_moves_every_network(made: Any) -> None:
    rule, state, batch = made
    after, metrics = jax.jit(rule.update)(state, batch, KEY)
    assert metrics["td_error"].shape == (4,) and after.updates == 1
    moved = jax.tree.map(lambda a, b: np.any(a != b), state.model.params, after.model.params)
    assert all(any(jax.tree.leaves(part)) for part in moved.values())


def test_plans_are_memory(made: Any) -> None:
    rule, state, _ = made
    memory = rule.memory((2,))
    assert memory.shape == (2, 3, 1)
    act = jax.jit(rule.act, static_argnums=4)
    action, after, _ = act(rule.policy(state), np.ones((2, 3), np.float32), memory, KEY, False)
    assert action.shape == (2, 1) and after.shape == memory.shape
    np.testing.assert_array_equal(after[:, -1], 0)


def test_elites_are_of_the_sequences() -> None:
    with pytest.raises(ConfigError, match="64 elites are not among 32 sequences; set --elites at"):
        make_recipe("tdmpc2", SPEC).override({"sequences": 32}).learner(SPEC, 100, 1)


def test_latents_have_to_divide_into_simplices() -> None:
    with pytest.raises(ConfigError, match="latent 12 has to be a multiple of 8"):
        make_recipe("tdmpc2", SPEC).override({"latent": 12}).learner(SPEC, 100, 1)
