"""One network for several agents: shapes, sharing and what each sees."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow

from parl import ops
from parl.core.spec import Box, Discrete
from parl.models import (
    CELLS,
    MLP,
    Agents,
    CategoricalPolicy,
    Ensemble,
    NormalPolicy,
    Recurrent,
    Value,
    cell_output,
    recurrent,
)

N, SIZE, A = 3, 2, 4
OBS = {
    "view": jnp.arange(12.0).reshape(2, N, SIZE) / 10,
    "legal": jnp.ones((2, N, A), bool).at[0, 1, 2].set(False),
    "alive": jnp.ones((2, N), bool),
    "state": jnp.ones((2, 5)),
}
SETS = [(), (0, 0, 1), (0, 1, 2)]


def policy(size: int = SIZE) -> CategoricalPolicy:
    return CategoricalPolicy({"view": Box((size,))}, Discrete(A), MLP((6,)))


@pytest.mark.parametrize("sets", [slow(()), (0, 0, 1), slow((0, 1, 2))], ids=str)
def test_each_agent_is_what_its_network_alone_would_be(sets: tuple[int, ...]) -> None:
    model = Agents(policy(SIZE + N), N, sets, agent_id=True)
    params = model.init(jax.random.key(0), OBS)
    logits = model.apply(params, OBS).logits
    assert logits.shape == (2, N, A)
    assert logits[0, 1, 2] < -1e8 < logits[0, 1, 1]
    for i in range(N):
        own = params if not sets else jax.tree.map(lambda x, i=i: x[sets[i]], params)
        view = jnp.concatenate([OBS["view"][:, i], jnp.tile(jnp.eye(N)[i], (2, 1))], -1)
        alone: Any = policy(SIZE + N).apply(own, {"view": view, "legal": OBS["legal"][:, i]})
        np.testing.assert_allclose(logits[:, i], alone.logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sets", [(0, 0, 1), slow((0, 1, 2))], ids=str)
def test_agents_of_one_set_share_all_and_others_nothing(sets: tuple[int, ...]) -> None:
    model = Agents(Value({"view": Box((SIZE,))}, MLP((6,))), N, sets)
    params = model.init(jax.random.key(0), OBS)
    assert {x.shape[0] for x in jax.tree.leaves(params)} == {max(sets) + 1}
    grads = jax.grad(lambda p: model.apply(p, OBS)[:, 2].sum())(params)
    sizes = np.array([np.abs(x).reshape(len(x), -1).sum(-1) for x in jax.tree.leaves(grads)])
    assert (sizes[:, sets[2]] > 0).any()
    for other in set(sets) - {sets[2]}:
        assert (sizes[:, other] == 0).all()


@pytest.mark.parametrize("sets", SETS[-1:], ids=str)
def test_memory_is_each_agents_own(sets: tuple[int, ...]) -> None:
    head = Value(cell_output(3), MLP(()))
    model = Agents(Recurrent({"view": Box((SIZE,))}, MLP((4,)), CELLS["gru"](3), head), N, sets)
    params = recurrent.init(model, jax.random.key(0), OBS)
    memory = recurrent.memory_of(model, (2,))
    assert memory.shape == (2, N, 3)
    sequence = jax.tree.map(lambda x: jnp.stack([x, x]), OBS)
    first = jnp.array([[True, True], [False, True]])
    value, memories = recurrent.unroll(model, params, sequence, first, memory)
    assert value.shape == (2, 2, N) and memories.shape == (2, 2, N, 3)
    once, after = recurrent.step(model, params, OBS, memory)
    twice, _ = recurrent.step(model, params, OBS, after)
    np.testing.assert_allclose(value[0], once, rtol=1e-5)
    np.testing.assert_allclose(value[1, 0], twice[0], rtol=1e-5)
    np.testing.assert_allclose(value[1, 1], once[1], rtol=1e-5)
    look = partial(recurrent.step, model, params)
    for cut in jnp.zeros((2, 2), bool), jnp.ones((2, 2), bool):
        next_value = recurrent.following(look, sequence, memories, value, cut)
        np.testing.assert_allclose(next_value[0, 0], twice[0], rtol=1e-5)


def test_the_state_is_the_same_for_all() -> None:
    model = Agents(Value({"state": Box((5,))}, MLP((4,))), N, (0, 1, 2), sees="state")
    params = model.init(jax.random.key(0), OBS)
    values = model.apply(params, OBS)
    assert values.shape == (2, N)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)
    assert len(np.unique(np.asarray(values[0]))) == N
    told = Agents(Value({"state": Box((5 + N,))}, MLP((4,))), N, agent_id=True, sees="state")
    values = told.apply(told.init(jax.random.key(0), OBS), OBS)
    assert len(np.unique(np.asarray(values[0]))) == N


def test_axes_ahead_of_the_batch_stay_ahead() -> None:
    member: Any = Value({"state": Box((5,))}, MLP((4,)))
    for sets in SETS:
        model = Agents(Ensemble(member, 2), N, sets, sees="state", ahead=1)
        assert model.apply(model.init(jax.random.key(0), OBS), OBS).shape == (2, 2, N)


def test_one_value_for_each_agent() -> None:
    model: Any = Value({"state": Box((5,))}, MLP((4,)), agents=N)
    assert model.apply(model.init(jax.random.key(0), OBS), OBS).shape == (2, N)


@pytest.mark.parametrize("cell", [False, True])
def test_numbers_that_an_action_does_not_have_count_for_nothing(cell: bool) -> None:
    """Agent 0 has all four numbers, agent 1 one, agent 2 three of them."""
    space, sizes = {"view": Box((SIZE,))}, (4, 1, 3)
    network: Any = NormalPolicy(space, 4, MLP((4,)))
    if cell:
        head = NormalPolicy(cell_output(3), 4, MLP(()))
        network = Recurrent(space, MLP((4,)), CELLS["gru"](3), head)
    model = Agents(network, N, action_sizes=sizes)
    obs = {"view": np.ones((2, N, SIZE), np.float32), "alive": np.ones((2, N), bool)}
    params, key = recurrent.init(model, jax.random.key(0), obs), jax.random.key(1)
    pi, _ = recurrent.step(model, params, obs, recurrent.memory_of(model, (2,)))
    action, other = np.zeros((2, N, 4), np.float32), np.full((2, N, 4), 5.0, np.float32)
    used = np.arange(4) < np.array(sizes)[:, None]
    np.testing.assert_allclose(pi.log_prob(np.where(used, action, other)), pi.log_prob(action))
    whole = ops.Normal(pi.mean, pi.log_std)
    np.testing.assert_allclose(pi.entropy(), whole.entropy() * np.array(sizes) / 4, rtol=1e-6)
    further = pi.replace(mean=pi.mean + 2.0)
    np.testing.assert_allclose(pi.kl(further), np.broadcast_to(np.array(sizes) * 2.0, (2, N)), 1e-5)
    sampled, log_prob = pi.sample_and_log_prob(key)
    np.testing.assert_allclose(log_prob, pi.log_prob(sampled), rtol=1e-4)
