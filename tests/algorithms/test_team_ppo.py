"""PPO of several agents: who counts, and that one agent alone is plain PPO."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import Function
from marks import slow
from team import (
    ACTIONS,
    AGENTS,
    STATE,
    VIEW,
    VIEW_SIZE,
    B,
    T,
    assert_trees_close,
    disturbed,
    rollout,
    team_spec,
)  # fmt: skip

from parl import ops
from parl.algorithms.a2c import A2C
from parl.algorithms.ppo import PPO
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Rollout, Step
from parl.models import MLP, Agents, CategoricalPolicy, Value

SETS = (0, 1, 2)
SETTINGS: dict[str, Any] = {"epochs": 2, "minibatches": 2, "gamma": 0.9, "learning_rate": 1e-2}


def make(
    kind: type = PPO, sets: tuple[int, ...] = (), central: bool = True, **settings: Any
) -> Any:
    actor = Agents(CategoricalPolicy(VIEW, Discrete(ACTIONS), MLP((4,))), AGENTS, sets)
    critic: Any = Value(STATE, MLP((4,)), agents=AGENTS)
    if not central:
        critic = Agents(Value(VIEW, MLP((4,))), AGENTS, sets)
    return kind(actor=actor, critic=critic, entropy_cost=0.1, **settings)


@pytest.mark.parametrize(
    ("turns", "team_reward", "central"),
    [
        slow(False, False, False),
        (True, True, True),
        slow(True, False, False),
        (False, True, False),
    ],
)
def test_who_does_not_act_changes_nothing(turns: bool, team_reward: bool, central: bool) -> None:
    """Whatever data the dead, the late and the waiting have: loss, gradient, statistics."""
    algorithm = make(
        central=central, team_reward=team_reward, normalize_value=True, **SETTINGS
    )  # fmt: skip
    batch = rollout(turns=turns)
    state = algorithm.init(jax.random.key(0), team_spec())
    update = jax.jit(algorithm.update)
    ours, info = update(state, batch, jax.random.key(1))
    theirs, other = update(state, disturbed(batch), jax.random.key(1))
    assert_trees_close(ours, theirs)
    assert_trees_close(info, other, rtol=1e-3)
    start, end = (
        jnp.concatenate([x.ravel() for x in jax.tree.leaves(s.net)]) for s in (state, ours)
    )
    assert jnp.abs(start - end).max() > 1e-3, "and it learns"


def test_a2c_counts_the_same_agents() -> None:
    algorithm, batch = make(A2C, central=False), rollout(turns=True)
    state = algorithm.init(jax.random.key(0), team_spec())
    loss = jax.jit(jax.value_and_grad(lambda p, b: algorithm.loss(p, b)[0]))
    assert_trees_close(loss(state.net.params, batch), loss(state.net.params, disturbed(batch)))


def test_unshared_agents_learn_apart() -> None:
    """The gradient of what one agent does is 0 in the parameters of all others."""
    algorithm, batch = make(sets=SETS, central=False, **SETTINGS), rollout()
    params = algorithm.init(jax.random.key(0), team_spec()).net.params
    data = algorithm.samples(params, batch)
    grad = jax.jit(jax.grad(lambda p, data: algorithm.loss(p, data)[0]))
    for i in range(AGENTS):
        only = data.replace(active=data.active & (np.arange(AGENTS) == i))
        grads = grad(params, only)
        sizes = np.array([np.abs(x).reshape(AGENTS, -1).sum(-1) for x in jax.tree.leaves(grads)])
        assert (sizes[:, i] > 0).any()
        assert (np.delete(sizes, i, 1) == 0).all()


def test_one_agent_is_ppo() -> None:
    """MAPPO with N = 1, its state the view, learns what PPO does."""
    rng = np.random.default_rng(0)
    view, next_view = rng.normal(size=(2, T, B, VIEW_SIZE)).astype(np.float32)
    last = rng.random((T, B)) < 0.3
    discount = np.where(last & (rng.random((T, B)) < 0.5), 0.0, 1.0).astype(np.float32)
    first = np.concatenate([np.ones((1, B), bool), last[:-1]])
    action, reward = rng.integers(ACTIONS, size=(T, B)), rng.normal(size=(T, B)).astype(np.float32)
    extras = {"log_prob": np.full((T, B), -1.0, np.float32)}
    plain = Step(view, action, reward, discount, next_view, first, last, extras)

    def seen(view: Any) -> dict[str, Any]:
        one = np.ones((T, B, 1), bool)
        legal = np.ones((T, B, 1, ACTIONS), bool)
        return {"view": view[:, :, None], "alive": one, "legal": legal, "state": view}

    behind = lambda x: x[:, :, None]
    several = plain._replace(
        obs=seen(view),
        next_obs=seen(next_view),
        action=behind(action),
        reward=behind(reward),
        extras={"log_prob": behind(extras["log_prob"])},
    )
    torso = MLP((4,))
    settings: Any = {"normalize_value": True, "huber_delta": 1.0, "clip_value": True, **SETTINGS}
    ppo = PPO(
        actor=CategoricalPolicy(Box((VIEW_SIZE,)), Discrete(ACTIONS), torso),
        critic=Value(Box((VIEW_SIZE,)), torso),
        **settings,
    )
    mappo = PPO(
        actor=Agents(CategoricalPolicy(VIEW, Discrete(ACTIONS), torso), 1),
        critic=Value({"state": Box((VIEW_SIZE,))}, torso, agents=1),
        team_reward=True,
        **settings,
    )
    spec = EnvSpec("one", Box((VIEW_SIZE,)), Discrete(ACTIONS))
    both = {
        "view": Box((1, VIEW_SIZE)),
        "alive": Box((1,), "bool"),
        "legal": Box((1, ACTIONS), "bool"),
        "state": Box((VIEW_SIZE,)),
    }
    team = EnvSpec("one", both, Discrete(ACTIONS), num_agents=1)
    state = jax.jit(lambda key: ppo.init(key, spec))(jax.random.key(0))
    other = jax.jit(lambda key: mappo.init(key, team))(jax.random.key(0))
    assert_trees_close(state.net.params, other.net.params)
    update, update_other = jax.jit(ppo.update), jax.jit(mappo.update)
    for i in range(3):
        state, info = update(state, Rollout(plain, ()), jax.random.key(i))
        other, more = update_other(other, Rollout(several, ()), jax.random.key(i))
    assert_trees_close(state.net.params, other.net.params, rtol=1e-3, atol=1e-5)
    assert_trees_close(state.values, other.values)
    assert_trees_close(info, more, rtol=1e-3)


def test_normalised_values_by_hand() -> None:
    """Targets 1 and 3 under a first critic of 0: mean 2, deviation 1; they become -1 and 1."""
    critic = Function(lambda p, obs: p * obs[..., 0], jnp.zeros(()))
    actor = Function(lambda p, obs: ops.Categorical(jnp.zeros((*obs.shape[:-1], 2))), ())
    algorithm = PPO(
        actor=actor, critic=critic, normalize_value=True, epochs=1, minibatches=1, lambda_=1.0
    )
    spec = EnvSpec("x", Box((1,)), Discrete(2))
    state = algorithm.init(jax.random.key(0), spec)
    yes, ones = np.ones((1, 2), bool), np.ones((1, 2, 1), np.float32)
    reward = np.array([[1.0, 3.0]], np.float32)
    extras = {"log_prob": np.log(np.full((1, 2), 0.5, np.float32))}
    steps = Step(ones, yes.astype(int), reward, 0 * reward, ones, yes, yes, extras)
    after, info = jax.jit(algorithm.update)(state, Rollout(steps, ()), jax.random.key(0))
    np.testing.assert_allclose([after.values.mean, after.values.std], [2, 1], rtol=1e-3)
    np.testing.assert_allclose(info["value_loss"], 0.5 * (1 + 1) / 2, rtol=1e-3)
    # the next rollout's values are restored: a critic of 0 says 2
    values = algorithm.samples(
        after.net.params | {"critic": jnp.zeros(())}, Rollout(steps, ()), after.values
    )
    np.testing.assert_allclose(values.value, [2, 2], rtol=1e-3)


def test_huber_loss_of_values_by_hand() -> None:
    """Errors 1 and 5 with a width of 2: 1/2 and 2 (5 - 1)."""
    algorithm = PPO(huber_delta=2.0)
    np.testing.assert_allclose(algorithm.distance(jnp.array([1.0, -5.0])), [2 * 0.5, 2 * 8.0])
    np.testing.assert_allclose(PPO().distance(jnp.array([1.0, -5.0])), [1, 25])


def test_a_team_goes_on_without_its_dead() -> None:
    """Agent 0 dies at the first of two steps; the second pays agent 1 alone.

    Alone: 0's return is 1, its own. As a team: 3 and then 4, of which 0 has no step to learn from,
    but what comes after its death counts for its last step as for that of 1: 3 + (4 + 8 / 2) / 2.
    The value at the end is agent 1's, the only one that acts.
    """
    alive = np.array([[[True, True]], [[False, True]]])
    next_alive = np.array([[[False, True]], [[False, True]]])
    reward = np.array([[[1.0, 2.0]], [[0.0, 4.0]]], np.float32)
    flag, one = np.zeros((2, 1), bool), np.ones((2, 1), np.float32)
    obs, next_obs = {"alive": alive}, {"alive": next_alive}
    steps = Step(obs, flag, reward, one, next_obs, flag, flag, {})
    value: Any = np.zeros((2, 1, 2), np.float32)
    next_value: Any = np.full((2, 1, 2), 8.0, np.float32)
    next_value[..., 0] = 1e6  # of a dead agent
    move = lambda **s: PPO(gamma=0.5, lambda_=1.0, **s).transitions(steps, value, next_value)
    alone, team = move(), move(team_reward=True)
    np.testing.assert_allclose(alone.reward[:, 0], [[1, 2], [0, 4]])
    np.testing.assert_allclose(alone.discount[0, 0], [0, 0.5])
    np.testing.assert_allclose(team.reward[:, 0], [[3, 3], [4, 4]])
    np.testing.assert_allclose(team.next_value[:, 0], [[8, 8], [8, 8]])
    np.testing.assert_allclose(team.discount[:, 0], [[0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_array_equal(team.active[:, 0], [[True, True], [False, True]])
    tail = team.last, team.next_value, team.lambda_
    returns = ops.lambda_returns(team.reward, team.discount, *tail)
    np.testing.assert_allclose(returns[0, 0], [7, 7])


def test_acting_draws_legal_actions_for_every_agent() -> None:
    algorithm = make(**SETTINGS)
    params = algorithm.policy(algorithm.init(jax.random.key(0), team_spec()))
    obs = jax.tree.map(lambda x: x[0], rollout().steps.obs)
    act = jax.jit(partial(algorithm.act, explore=True))
    for seed in range(5):
        action, _, extras = act(params, obs, (), jax.random.key(seed))
        assert action.shape == extras["log_prob"].shape == (B, AGENTS)
        assert np.take_along_axis(obs["legal"], np.asarray(action)[..., None], -1).all()
