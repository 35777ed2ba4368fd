"""MADDPG and MATD3 with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import Function
from marks import slow
from team import ACTIONS, AGENTS, STATE, VIEW, assert_trees_close, disturbed, rollout, team_spec

from parl.algorithms.maddpg import MADDPG, own_among_taken, same_for_all
from parl.core.types import Step
from parl.models import MLP, Agents, Critic, DiscreteValues, Ensemble
from parl.models.control import DeterministicPolicy

# Two agents with one-dimensional actions: the policy is p * view. Two critics, once and twice the
# sum of all actions, times the agent's own parameter.
ACTOR = Function(lambda p, obs: p * obs["view"], jnp.float32(0.5))
CRITIC = Function(
    lambda p, obs, a: jnp.stack([p * a.sum(-1), 2 * p * a.sum(-1)]), jnp.array([1.0, 10.0])
)


def batch(alive: Any = (True, True)) -> Step:
    """One step [B=1, N=2] with rewards 1 and 2; behind it the views are 0.4 and 0.8."""
    there = np.ones((1, 2), bool)
    obs = {
        "view": np.array([[[0.2], [0.6]]], np.float32),
        "alive": there,
        "state": np.zeros((1, 1)),
    }
    next_obs = obs | {"view": 2 * obs["view"] + np.array([[[0.0], [-0.4]]], np.float32)}
    next_obs["alive"] = np.array([alive])
    reward, one = np.array([[1.0, 2.0]], np.float32), np.ones(1, np.float32)
    action = np.array([[[0.1], [-0.3]]], np.float32)
    return Step(obs, action, reward, one, next_obs, one > 2, one > 2, {})


def state_of(algorithm: MADDPG) -> Any:
    spec = team_spec(continuous=True, agents=2)
    return algorithm.init(jax.random.key(0), spec)


def make(**settings: Any) -> MADDPG:
    return MADDPG(actor=ACTOR, critic=CRITIC, gamma=0.5, smoothing=0.0, **settings)


@pytest.mark.parametrize("team", [False, True])
def test_the_target_by_hand(team: bool) -> None:
    """Next actions 0.2 and 0.4, together 0.6: values 0.6 and 6, the lesser of two critics."""
    algorithm = make(team_reward=team)
    state = state_of(algorithm)
    loss, (metrics, _) = algorithm.critic_loss(CRITIC.params, state, batch(), jax.random.key(0))
    reward = np.array([3.0, 3.0] if team else [1.0, 2.0])
    target = reward + 0.5 * np.array([0.6, 6.0])
    values = np.array([-0.2, -2.0])  # of the actions taken, by the first critics
    errors = [values - target, 2 * values - target]
    np.testing.assert_allclose(loss, sum(0.5 * np.mean(e**2) for e in errors), rtol=1e-5)
    np.testing.assert_allclose(metrics["q"], 1.5 * values.mean(), rtol=1e-5)


def test_death_ends_an_agents_target_and_its_part_in_that_of_others() -> None:
    algorithm = make()
    given = batch(alive=(True, False)), jax.random.key(0)
    loss = algorithm.critic_loss(CRITIC.params, state_of(algorithm), *given)[0]
    target, values = np.array([1 + 0.5 * 0.2, 2.0]), np.array([-0.2, -2.0])
    errors = [values - target, 2 * values - target]
    np.testing.assert_allclose(loss, sum(0.5 * np.mean(e**2) for e in errors), rtol=1e-5)


def by_turns(turn: Any, next_turn: Any) -> Step:
    """`batch` with these turns."""
    given = batch()
    place = lambda obs, turn: obs | {"turn": np.array([turn])}
    return given._replace(obs=place(given.obs, turn), next_obs=place(given.next_obs, next_turn))


@pytest.mark.parametrize("team", [False, True])
def test_who_waits_learns_what_arrives_by_hand(team: bool) -> None:
    """Agent 0 moved 0.1 and agent 1 moves 0.4 next, to its target policy.

    Both critics learn, of the mover's action alone. What agent 0 is to come to is not discounted,
    since its next move does not follow; that of agent 1 is. A team is discounted at each move.
    """
    algorithm, given = make(team_reward=team), by_turns([True, False], [False, True])
    key = jax.random.key(0)
    loss, _ = algorithm.critic_loss(CRITIC.params, state_of(algorithm), given, key)
    reward, discount = ([3.0, 3.0], [0.5, 0.5]) if team else ([1.0, 2.0], [1.0, 0.5])
    target = np.array(reward) + np.array(discount) * np.array([0.4, 4.0])
    values = np.array([0.1, 1.0])
    errors = [values - target, 2 * values - target]
    np.testing.assert_allclose(loss, sum(0.5 * np.mean(e**2) for e in errors), rtol=1e-5)


def test_a_dead_member_is_worth_what_its_team_is() -> None:
    """Agent 1 dies: the team's next value, of agent 0's action alone, counts for both."""
    algorithm = make(team_reward=True)
    given = batch(alive=(True, False)), jax.random.key(0)
    loss = algorithm.critic_loss(CRITIC.params, state_of(algorithm), *given)[0]
    target, values = 3.0 + 0.5 * np.array([0.2, 2.0]), np.array([-0.2, -2.0])
    errors = [values - target, 2 * values - target]
    np.testing.assert_allclose(loss, sum(0.5 * np.mean(e**2) for e in errors), rtol=1e-5)


def test_a_policy_answers_for_its_own_action_only() -> None:
    """Agent 0: 0.5 * 0.2 with -0.3 of the other; agent 1: 0.5 * 0.6 with 0.1; means of Q."""
    algorithm = make()
    loss = lambda p: algorithm.actor_loss(p, state_of(algorithm), batch(), jax.random.key(0))[0]
    value, grad = jax.value_and_grad(loss)(jnp.float32(0.5))
    np.testing.assert_allclose(value, -(1 * (0.1 - 0.3) + 10 * (0.3 + 0.1)) / 2, rtol=1e-5)
    np.testing.assert_allclose(grad, -(1 * 0.2 + 10 * 0.6) / 2, rtol=1e-5)


def test_joint_actions_by_hand() -> None:
    action, taken = jnp.array([[[1.0], [2.0]]]), jnp.array([[[3.0], [4.0]]])
    np.testing.assert_array_equal(same_for_all(taken), [[[3, 4], [3, 4]]])
    np.testing.assert_array_equal(own_among_taken(action, taken), [[[1, 4], [3, 2]]])


def network(discrete: bool) -> MADDPG:
    kind: Any = DiscreteValues if discrete else DeterministicPolicy
    actor = Agents(kind(VIEW, ACTIONS, MLP((4,))), AGENTS)
    critic = Ensemble(Critic(STATE, MLP((4,))), 2)
    sets = tuple(range(AGENTS))
    return MADDPG(
        actor=actor,
        critic=Agents(critic, AGENTS, sets, sees="state", ahead=1),
        discrete=discrete,
        policy_period=1,
    )


@pytest.mark.parametrize("discrete", [False, slow(True)])
def test_who_does_not_act_changes_nothing(discrete: bool) -> None:
    algorithm = network(discrete)
    whole = rollout(continuous=not discrete)
    state = algorithm.init(jax.random.key(0), team_spec(continuous=not discrete))
    update = jax.jit(algorithm.update)
    ours, theirs = (
        update(state, algorithm.items(b), jax.random.key(1)) for b in (whole, disturbed(whole))
    )
    assert_trees_close(ours, theirs)
    for part in ("actor", "critic"):
        before, after = getattr(state, part).params, getattr(ours[0], part).params
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), before, after)
        assert max(jax.tree.leaves(moved)) > 1e-5


def test_discrete_actions_are_legal_samples_with_a_gradient() -> None:
    algorithm, obs = network(True), jax.tree.map(lambda x: x[0], rollout().steps.obs)
    params = algorithm.actor.init(jax.random.key(0), obs)
    many = jax.tree.map(lambda x: np.repeat(x, 500, 0), obs)
    relaxed, act = jax.jit(algorithm.relaxed), jax.jit(algorithm.act, static_argnames="explore")
    action, logits = relaxed(params, many, jax.random.key(1))
    assert set(np.unique(np.round(action, 5))) == {0.0, 1.0}
    assert (np.asarray(action).sum(-1).round(5) == 1).all()
    assert (np.round(action[~many["legal"]], 5) == 0).all()
    masked = np.where(many["legal"], logits, -1e9).astype(np.float32)
    share = np.asarray(action).reshape(-1, 500, AGENTS, ACTIONS).mean(1)
    expected = np.asarray(jax.nn.softmax(masked)).reshape(-1, 500, AGENTS, ACTIONS).mean(1)
    np.testing.assert_allclose(share, expected, atol=0.1)
    first = lambda p: algorithm.relaxed(p, obs, jax.random.key(1))[0][..., 0].sum()
    assert max(np.abs(x).max() for x in jax.tree.leaves(jax.jit(jax.grad(first))(params))) > 1e-3
    drawn = act(params, many, (), jax.random.key(2), explore=True)[0]
    best = act(params, many, (), jax.random.key(2), explore=False)[0]
    np.testing.assert_array_equal(best, masked.argmax(-1))
    assert np.take_along_axis(many["legal"], np.asarray(drawn)[..., None], -1).all()
