"""PQN and PQN-VDN with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from handmade import Function, steps
from team import ACTIONS, AGENTS, VIEW, assert_trees_close, disturbed, rollout, team_spec

from parl.algorithms.pqn import PQN, PQNVDN
from parl.core.types import Rollout, Step
from parl.models import CELLS, MLP, Agents, DiscreteValues, Recurrent, cell_output
from parl.models.mixers import Sum

TABLE = Function(lambda p, obs: p * obs["view"], jnp.float32(1))
PARAMS = {"q": jnp.float32(1), "mixer": {}}


def two_steps() -> Rollout:
    """[T=2, B=1, N=2]: best values 2 + 4 at first, 6 + 8 then; the second step terminates."""
    view = np.array([[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0, 6.0], [8.0, 7.0]]]], np.float32)
    next_view = np.concatenate([view[1:], 9 + 0 * view[1:]])
    yes, legal = np.ones((2, 1, 2), bool), np.ones((2, 1, 2, 2), bool)
    seen = lambda x: {"view": x, "alive": yes, "legal": legal, "state": np.zeros((2, 1, 1))}
    reward = np.array([[[0.5, 0.5]], [[10.0, 20.0]]], np.float32)
    discount, last = np.array([[1.0], [0.0]], np.float32), np.array([[False], [True]])
    action = np.array([[[0, 1]], [[1, 0]]])
    step = Step(seen(view), action, reward, discount, seen(next_view), ~last, last, {})
    return Rollout(step, ())


def test_lambda_returns_of_one_agent_by_hand() -> None:
    """Two environments. Values are (o, 2 o); the best of the next ones 6 and 10, then 4 and 2.

    In the first, the second step ends at a time limit: its return is 1 + 0.5 * 4 = 3, and the
    first one's 1 + 0.5 * (0.5 * 6 + 0.5 * 3) = 3.25. In the second, the first step terminates.
    """
    q = Function(lambda p, obs: p * obs * jnp.array([1.0, 2.0]), jnp.float32(1))
    algorithm = PQN(q=q, gamma=0.5, lambda_=0.5)
    batch = steps(
        obs=[[[1.0], [2.0]], [[3.0], [1.0]]],
        next_obs=[[[3.0], [5.0]], [[2.0], [1.0]]],
        action=[[0, 1], [1, 0]],
        reward=[[1.0, -1.0], [1.0, 2.0]],
        discount=[[1.0, 0.0], [1.0, 1.0]],
        last=[[False, True], [True, False]],
        first=[[True, True], [False, True]],
    )
    sample = algorithm.samples(jnp.float32(1), Rollout(batch, ()))
    np.testing.assert_allclose(sample.target, [3.25, -1, 3, 3])
    assert sample.active is None
    loss, metrics = algorithm.loss(jnp.float32(1), sample)
    errors = np.array([1 - 3.25, 4 + 1, 6 - 3, 1 - 3])
    np.testing.assert_allclose(loss, 0.5 * (errors**2).mean())
    np.testing.assert_allclose(metrics["q"], (1 + 4 + 6 + 1) / 4)


def test_lambda_returns_of_the_sum_by_hand() -> None:
    """Behind the first step: half of the best value 14, half of the return 30."""
    algorithm = PQNVDN(q=TABLE, mixer=Sum(), gamma=0.5, lambda_=0.5)
    sample = jax.jit(algorithm.samples)(PARAMS, two_steps())
    np.testing.assert_allclose(sample.target, [1 + 0.5 * (0.5 * 14 + 0.5 * 30), 30])
    loss = jax.jit(jax.value_and_grad(lambda p: algorithm.loss(p, sample)[0]))
    value, grad = loss(PARAMS)
    np.testing.assert_allclose(value, 0.5 * ((5 - 12) ** 2 + (14 - 30) ** 2) / 2)
    np.testing.assert_allclose(grad["q"], ((5 - 12) * 5 + (14 - 30) * 14) / 2)


def test_who_does_not_act_changes_nothing() -> None:
    """With memory, in turns: whole updates of two epochs."""
    head = DiscreteValues(cell_output(3), ACTIONS, MLP(()))
    q = Agents(Recurrent(VIEW, MLP((4,)), CELLS["gru"](3), head), AGENTS)
    algorithm = PQNVDN(q=q, mixer=Sum(), epochs=2, minibatches=2, learning_rate=1e-2)
    state, batch = algorithm.init(jax.random.key(0), team_spec()), rollout(turns=True)
    batch = batch._replace(memory=algorithm.memory(batch.steps.first.shape[1:]))
    update = jax.jit(algorithm.update)
    ours, theirs = (update(state, b, jax.random.key(1)) for b in (batch, disturbed(batch)))
    assert_trees_close(ours, theirs, rtol=1e-3, atol=1e-5)
    moved: Any = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), state.net, ours[0].net)
    assert max(jax.tree.leaves(moved)) > 1e-3
    assert int(algorithm.observe(ours[0], batch).env_steps) == batch.steps.first.size
