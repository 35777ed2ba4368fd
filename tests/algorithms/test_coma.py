"""COMA with worked numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import Function
from marks import slow
from team import (
    ACTIONS,
    AGENTS,
    STATE_SIZE,
    VIEW,
    assert_trees_close,
    disturbed,
    rollout,
    team_spec,
)

from parl import ops
from parl.algorithms import coma
from parl.algorithms.coma import COMA, counterfactual, others_of
from parl.core.spec import Box, Discrete
from parl.models import MLP, Agents, CategoricalPolicy, Critic


def every_action(outputs):
    return outputs


def make(**settings) -> COMA:
    space = {"state": Box((STATE_SIZE + AGENTS,))}
    critic = Critic(space, MLP((4,)), ACTIONS, every_action)
    actor = Agents(CategoricalPolicy(VIEW, Discrete(ACTIONS), MLP((4,))), AGENTS)
    central = Agents(critic, AGENTS, agent_id=True, sees="state")
    return COMA(actor=actor, critic=central, minibatches=2, epochs=2, **settings)


def test_the_advantage_by_hand() -> None:
    """Values 1, 2, 4 under probabilities 1/2, 1/4, 1/4: the baseline is 2."""
    q, probs = jnp.array([1.0, 2.0, 4.0]), jnp.array([0.5, 0.25, 0.25])
    advantage = jnp.stack([counterfactual(q, probs, jnp.int32(a)) for a in range(3)])
    np.testing.assert_allclose(advantage, [-1, 0, 2])
    np.testing.assert_allclose((probs * advantage).sum(), 0, atol=1e-7)


def test_critics_see_what_the_others_do() -> None:
    """Agents 0 and 1 took 1 and 0; agent 2 is not there: its action counts for nobody."""
    obs = {"alive": jnp.array([[True, True, False]])}
    joint = others_of(jnp.array([[1, 0, 1]]), obs, 2)
    expected = [[0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0]]
    np.testing.assert_array_equal(joint[0], expected)


def test_the_policy_gradient_by_hand() -> None:
    """One agent of three actions, all alike; values 1, 2, 6: action 2 is worth 3 more."""
    actor = Function(
        lambda p, obs: ops.Categorical(jnp.broadcast_to(p, (1, 1, 1, 3))), jnp.zeros(3)
    )
    critic = Function(
        lambda p, obs, others: jnp.broadcast_to(p, (1, 1, 1, 3)), jnp.array([1.0, 2, 6])
    )
    algorithm = COMA(actor=actor, critic=critic)
    steps = rollout().steps
    one = jnp.ones((1, 1, 1), bool)
    obs = {"alive": one, "legal": jnp.ones((1, 1, 1, 3), bool)}
    steps = steps._replace(obs=obs, action=jnp.full((1, 1, 1), 2), first=one[..., 0])
    loss = lambda p: algorithm.loss({"actor": p}, critic.params, coma.Rollout(steps, ()))[0]
    grad = jax.grad(loss)(actor.params)
    np.testing.assert_allclose(grad, [3 * 1 / 3, 3 * 1 / 3, -3 * 2 / 3], rtol=1e-5)


@pytest.mark.parametrize("turns", [slow(False), True])
def test_who_does_not_act_changes_nothing(turns: bool) -> None:
    algorithm, batch = make(team_reward=True, learning_rate=1e-2), rollout(turns=turns)
    state = algorithm.init(jax.random.key(0), team_spec())
    update = jax.jit(algorithm.update)
    ours, theirs = (update(state, b, jax.random.key(1)) for b in (batch, disturbed(batch)))
    assert_trees_close(ours, theirs, rtol=1e-3)
    for part in ("net", "critic"):
        before, after = getattr(state, part), getattr(ours[0], part)
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), before.params, after.params)
        assert max(jax.tree.leaves(moved)) > 1e-3


def test_the_target_moves_at_its_period() -> None:
    algorithm, batch = make(target_period=2), rollout()
    state = algorithm.init(jax.random.key(0), team_spec())
    update = jax.jit(algorithm.update)
    once, _ = update(state, batch, jax.random.key(1))
    twice, _ = update(once, batch, jax.random.key(2))
    assert_trees_close(once.target, state.target, rtol=0, atol=0)
    assert_trees_close(twice.target, twice.critic.params, rtol=0, atol=0)
