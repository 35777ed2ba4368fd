"""QMIX, VDN and independent Q-learning with worked numbers."""

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
    VIEW,
    B,
    T,
    assert_trees_close,
    disturbed,
    rollout,
    team_spec,
)

from parl.algorithms.qmix import QMIX
from parl.algorithms.shared.minibatches import swap_axes
from parl.core.types import Rollout, Step
from parl.models import CELLS, MLP, Agents, DiscreteValues, Recurrent, cell_output
from parl.models.mixers import Independent, QMixer, Sum

# Values of both actions of two agents: what the view says, times a parameter.
TABLE = Function(lambda p, obs: p * obs["view"], jnp.float32(1))
# Total: twice the first agent's value and three times the second's.
WEIGHTED = Function(lambda p, q, state: (p * q).sum(-1), jnp.array([2.0, 3.0]))


def two_steps(**changes: Any) -> Rollout:
    """Two steps of one environment as an item [1, T=2, ...]; the second terminates with a prize."""
    view = np.array([[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0, 6.0], [8.0, 7.0]]]], np.float32)
    next_view = np.concatenate([view[1:], 9 + 0 * view[1:]])  # [T, B, N, A]
    yes = np.ones((2, 1, 2), bool)

    def seen(view: Any) -> dict[str, Any]:
        legal = np.ones((2, 1, 2, 2), bool)
        return {"view": view, "alive": yes, "legal": legal, "state": np.zeros((2, 1, 1))}

    flag = np.zeros((2, 1), bool)
    fields: dict[str, Any] = {
        "obs": seen(view),
        "next_obs": seen(next_view),
        "action": np.array([[[0, 1]], [[1, 0]]]),
        "reward": np.array([[[0.5, 0.5]], [[10.0, 20.0]]], np.float32),
        "discount": np.array([[1.0], [0.0]], np.float32),
        "first": flag,
        "last": np.array([[False], [True]]),
        "extras": {},
    }
    return Rollout(swap_axes(Step(**(fields | changes))), ())


def errors(mixer: Any, batch: Rollout | None = None, **settings: Any) -> tuple[Any, Any]:
    """(loss, its gradient) of the table with gamma of one half, errors counted squared."""
    algorithm = QMIX(q=TABLE, mixer=mixer, gamma=0.5, huber_delta=1e6, **settings)
    params = {"q": TABLE.params, "mixer": mixer.init(jax.random.key(0), jnp.zeros((1, 2)), 0)}
    loss = lambda p: algorithm.loss(p, params, batch or two_steps(), jax.random.key(0))[0]
    return jax.value_and_grad(loss)(params)


def test_the_sum_by_hand() -> None:
    """Q of the steps 1 + 4 and 6 + 8; best at the second 6 + 8, nothing behind the last."""
    first = 5 - (1 + 0.5 * 14)
    prize = 14 - 30  # terminal steps count
    loss, grads = errors(Sum())
    np.testing.assert_allclose(loss, 0.5 * (first**2 + prize**2) / 2, rtol=1e-6)
    np.testing.assert_allclose(grads["q"], (first * 5 + prize * 14) / 2, rtol=1e-6)


def test_a_mixer_by_hand() -> None:
    first = (2 * 1 + 3 * 4) - (1 + 0.5 * (2 * 6 + 3 * 8))
    prize = (2 * 6 + 3 * 8) - 30
    loss, grads = errors(WEIGHTED)
    np.testing.assert_allclose(loss, 0.5 * (first**2 + prize**2) / 2, rtol=1e-6)
    np.testing.assert_allclose(
        grads["mixer"], [(first + prize * 6) / 2, (4 * first + 8 * prize) / 2]
    )


def test_alone_by_hand() -> None:
    """Each agent's own reward and best next value."""
    first = [1 - (0.5 + 0.5 * 6), 4 - (0.5 + 0.5 * 8)]
    prize = [6 - 10, 8 - 20]
    loss, _ = errors(Independent())
    np.testing.assert_allclose(loss, 0.5 * np.mean(np.square([*first, *prize])), rtol=1e-6)


def by_turns(next_turn: Any) -> Rollout:
    """`two_steps` in turns, 0 and then 1, cut behind the second with these in line."""
    batch = two_steps(discount=np.ones((2, 1), np.float32))
    turn = np.array([[[True, False]], [[False, True]], [next_turn]])
    obs = batch.steps.obs | {"turn": swap_axes(turn[:2])}
    next_obs = batch.steps.next_obs | {"turn": swap_axes(turn[1:])}
    return batch._replace(steps=batch.steps._replace(obs=obs, next_obs=next_obs))


@pytest.mark.parametrize(("next_turn", "worth"), [([True, False], 11), ([False, False], 12.5)])
def test_a_team_in_turns_that_is_cut_by_hand(next_turn: Any, worth: float) -> None:
    """Values behind the cut are 10, 11 and 14, 14: of who is in line, or the mean of the two."""
    batch = by_turns(next_turn)
    view = np.array(batch.steps.next_obs["view"])
    view[0, 1] = [[10, 11], [14, 14]]
    batch = batch._replace(
        steps=batch.steps._replace(next_obs=batch.steps.next_obs | {"view": view})
    )
    first, last = 1 - (1 + 0.5 * 8), 8 - (30 + 0.5 * worth)
    np.testing.assert_allclose(errors(Sum(), batch)[0], 0.5 * (first**2 + last**2) / 2, rtol=1e-6)


def test_alone_in_turns_that_are_cut_by_hand() -> None:
    """Both moves are followed by the value of a last view, 9, whoever is in line."""
    batch = by_turns([True, False])
    first, last = 1 - (0.5 + 10 + 0.5 * 9), 8 - (20 + 0.5 * 9)
    loss, _ = errors(Independent(), batch)
    np.testing.assert_allclose(loss, 0.5 * np.mean(np.square([first, last])), rtol=1e-6)


def test_only_legal_actions_are_bootstrapped_from() -> None:
    batch = two_steps()
    legal = np.array(batch.steps.next_obs["legal"])
    legal[0, 0, 0] = [True, False]  # of agent 0 behind the first step: 5 in place of 6
    next_obs = batch.steps.next_obs | {"legal": legal}
    batch = batch._replace(steps=batch.steps._replace(next_obs=next_obs))
    first, prize = 5 - (1 + 0.5 * 13), 14 - 30
    np.testing.assert_allclose(errors(Sum(), batch)[0], 0.5 * (first**2 + prize**2) / 2, rtol=1e-6)


def test_a_prize_at_the_end_is_learned_from() -> None:
    """The gradient of the last step alone is not zero."""
    batch = two_steps()
    poorer = batch.steps._replace(reward=batch.steps.reward - 1.0)
    change = errors(Sum())[1]["q"] - errors(Sum(), batch._replace(steps=poorer))[1]["q"]
    np.testing.assert_allclose(change, -(2 * 5 + 2 * 14) / 2, rtol=1e-5)


def network(recurrent: bool) -> Agents:
    if not recurrent:
        return Agents(DiscreteValues(VIEW, ACTIONS, MLP((4,))), AGENTS)
    head = DiscreteValues(cell_output(3), ACTIONS, MLP(()))
    return Agents(Recurrent(VIEW, MLP((4,)), CELLS["gru"](3), head), AGENTS)


@pytest.mark.parametrize("turns", [slow(False), True])
@pytest.mark.parametrize(
    "mixer", [slow(Sum()), Independent(), QMixer(2, 3)], ids=lambda m: type(m).__name__
)
def test_who_does_not_act_changes_nothing(mixer: Any, turns: bool) -> None:
    algorithm = QMIX(q=network(recurrent=mixer == Sum()), mixer=mixer)
    batch = rollout(turns=turns)._replace(memory=algorithm.memory((B,)))
    state = algorithm.init(jax.random.key(0), team_spec())
    target = jax.tree.map(lambda x: x + 0.1, state.target)

    def loss(params: Any, batch: Any) -> Any:
        return algorithm.loss(params, target, algorithm.items(batch), jax.random.key(0))[0]

    program = jax.jit(jax.value_and_grad(loss))
    ours, theirs = (program(state.net.params, b) for b in (batch, disturbed(batch)))
    assert_trees_close(ours, theirs)
    assert ours[0] > 0.01


def test_segments_go_on_where_acting_was() -> None:
    """Learning sees the memory that acting had, and forgets where episodes open."""
    algorithm = QMIX(q=network(recurrent=True), mixer=Sum())
    state, steps = algorithm.init(jax.random.key(0), team_spec()), rollout().steps
    params, memory = state.net.params["q"], jnp.ones((B, AGENTS, 3))
    item = algorithm.items(Rollout(steps, memory))
    assert item.steps.first.shape == (B, T) and item.memory.shape == (B, AGENTS, 3)
    values = jax.jit(algorithm.values)
    q, _ = values(params, steps, memory)
    opened, _ = values(params, steps, 0 * memory)
    assert steps.first[0].all(), "every environment starts with an episode"
    np.testing.assert_allclose(q, opened, rtol=1e-6)
    goes_on = steps._replace(first=np.zeros_like(steps.first))
    assert np.abs(values(params, goes_on, memory)[0] - q).max() > 1e-3


def test_acting_is_each_agents_own_exploration() -> None:
    algorithm = QMIX(q=network(recurrent=False), mixer=Sum(), epsilon_start=0.5, epsilon_end=0.5)
    state = algorithm.init(jax.random.key(0), team_spec())
    policy = algorithm.policy(state)
    assert jax.tree.structure(policy.params) == jax.tree.structure(state.net.params["q"])
    obs = jax.tree.map(lambda x: np.repeat(x[0], 500, 0), rollout().steps.obs)
    act = lambda explore: algorithm.act(policy, obs, (), jax.random.key(0), explore)[0]
    free, best = act(True), act(False)
    assert free.shape == best.shape == (500 * B, AGENTS) and free.dtype == jnp.int32
    assert np.take_along_axis(obs["legal"], np.asarray(free)[..., None], -1).all()
    choice = obs["legal"].sum(-1) > 1
    share = np.mean((free != best)[choice])
    assert 0.15 < share < 0.4, "half of the time, of which some of the best"
