"""Federated clients: who takes part, what is averaged, and that one client is the plain run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import CARTPOLE, LENGTH, NUM_ENVS, make_learner

from parl import ops
from parl.agents.execution.clients import Clients, ClientShard, averaged, plan
from parl.agents.execution.federated import Federated, InlineShards
from parl.agents.execution.fused import Fused
from parl.agents.execution.protocol import Seeds
from parl.agents.learner import LearnerState
from parl.core.checkpoint import Checkpoint, named_leaves, params_sha256, to_numpy
from parl.core.types import Net
from parl.envs.randomized import Randomized, Range


def federated(clients: Clients, env=CARTPOLE, learner=None) -> Federated:
    learner = make_learner("pg") if learner is None else learner
    size = NUM_ENVS, LENGTH
    shard = ClientShard(env, learner, clients, range(clients.count), *size)
    return Federated(env, learner, clients, InlineShards(shard), *size)


def digest(execution) -> str:
    return params_sha256(named_leaves(execution.snapshot(False).tree))


def test_a_round_has_the_clients_that_its_shares_say() -> None:
    clients = Clients(1000, participate=0.2, iterations=4, drop_out=0.25, straggle=0.5)
    rounds = [plan(clients, index) for index in range(40)]
    assert all((np.diff(each.clients) > 0).all() for each in rounds)
    sent = sum(len(each.clients) for each in rounds)
    assert sent + sum(each.dropped for each in rounds) == 40 * 200
    assert sent == pytest.approx(6000, abs=150)
    assert sum(each.stragglers for each in rounds) == pytest.approx(3000, abs=150)
    late = np.concatenate([each.iterations for each in rounds])
    assert set(late) == {1, 2, 3, 4}
    assert (late < 4).sum() == sum(each.stragglers for each in rounds)
    again = plan(clients, 7)
    np.testing.assert_array_equal(again.clients, rounds[7].clients)


def test_all_take_part_where_nothing_is_said() -> None:
    here = plan(Clients(5, iterations=3), 0)
    assert here.clients.tolist() == [0, 1, 2, 3, 4] and here.iterations.tolist() == [3] * 5


def test_the_proximal_term_pulls_towards_the_start_of_the_round() -> None:
    """w = 2, w_t = 1, gradient 3, mu 0.5: the step is -0.1 (3 + 0.5 (2 - 1)) = -0.35."""
    optimizer = ops.Proximal(optax.sgd, 0.5)(0.1)
    begun = Net(jnp.array(1.0), optimizer.init(jnp.array(1.0)))
    moved = begun._replace(params=jnp.array(2.0))
    step, _ = optimizer.update(jnp.array(3.0), moved.opt, moved.params)
    assert float(step) == pytest.approx(-0.35)
    step, _ = optimizer.update(jnp.array(3.0), ops.recentered(moved).opt, moved.params)
    assert float(step) == pytest.approx(-0.3)


def test_one_client_is_the_plain_run_bit_for_bit() -> None:
    plain = Fused(CARTPOLE, make_learner("pg"), Seeds((5,)), NUM_ENVS, LENGTH)
    one = federated(Clients(1, seed=5))
    before = plain.advance(6), one.advance(6)
    assert digest(one) == digest(plain)
    assert before[0].ended.count == before[1].ended.count > 0
    assert before[0].ended.return_sum == before[1].ended.return_sum


@pytest.fixture(scope="module")
def wave() -> Federated:
    """Five unlike clients in waves of two, of which three take part in a round."""
    env = Randomized(CARTPOLE, (Range("length", 0.3, 0.9),))
    return federated(Clients(5, participate=0.6, iterations=2, at_once=2, seed=3), env)


def test_a_round_is_the_mean_of_its_clients(wave: Federated) -> None:
    """Each client alone, from the server's state: the server then has their mean."""
    here, before = plan(wave.clients, 0), wave.state
    at = np.array([2])
    alone = [wave.shards.shard.round(before, here.clients[i : i + 1], at, 0) for i in range(3)]  # pyright: ignore
    expected = [np.mean(x, 0) for x in zip(*(parts[0].floats for parts in alone), strict=True)]
    fresh = federated(wave.clients, wave.env)
    fresh.advance(1)
    leaves = [x for x in jax.tree.leaves(fresh.algorithm_state) if x.dtype == jnp.float32]
    for leaf, mean in zip(leaves, expected, strict=True):
        np.testing.assert_allclose(leaf, mean, atol=1e-6)
    assert not np.array_equal(leaves[0], jax.tree.leaves(before.algorithm_state)[0])
    assert fresh.stats()["clients/sent"] == 3


def test_clients_keep_unlike_environments(wave: Federated) -> None:
    lengths = wave.shards.actors.vector.parameters["length"]
    assert lengths.shape == (5,) and len(set(lengths.tolist())) == 5
    assert (lengths >= 0.3).all() and (lengths <= 0.9).all()


def test_rounds_resume_bit_for_bit(wave: Federated) -> None:
    whole = federated(wave.clients, wave.env)
    whole.advance(2)
    shot = whole.snapshot()
    whole.advance(2)
    arrays = {name: to_numpy(x) for name, x in named_leaves(shot.tree).items()}
    rest = federated(wave.clients, wave.env)
    rest.restore(Checkpoint(None, shot.meta, {k: x.copy() for k, x in arrays.items()}))  # pyright: ignore
    rest.advance(2)
    assert digest(rest) == digest(whole)
    assert rest.stats() == whole.stats()


def test_a_round_that_nobody_sends_changes_nothing() -> None:
    state = LearnerState.fresh({"w": jnp.ones(2)})
    assert averaged(state, []) is state


def test_like_clients_are_one_client() -> None:
    """The mean of equal results: clients of one seed are the plain run."""
    one = federated(Clients(1, seed=5))
    both = federated(Clients(2, seed=5))
    shard = both.shards.shard  # pyright: ignore
    shard.actors = jax.tree.map(lambda x: np.repeat(x[:1], 2, 0), shard.actors)
    state = both.state
    parts = shard.round(state, np.array([0, 0]), np.array([1, 1]), 0)
    one.advance(1)
    got = averaged(state, parts).algorithm_state
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(one.algorithm_state), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.slow
def test_averaging_every_step_of_sgd_is_data_parallel() -> None:
    """The mean of two clients' steps is the step of their joint batch."""
    learner = make_learner("pg")
    plain = learner.algorithm.replace(optimizer=optax.sgd, max_grad_norm=1e9, entropy_cost=0.0)
    learner = dataclasses.replace(learner, algorithm=plain)
    both = federated(Clients(2, seed=5), learner=learner)
    shard, state = both.shards.shard, both.state  # pyright: ignore
    each = [shard.round(state, np.array([k]), np.array([1]), 0)[0].floats for k in range(2)]
    both.advance(1)
    got = [x for x in jax.tree.leaves(both.algorithm_state) if x.dtype == jnp.float32]
    for mean, a, b in zip(got, *each, strict=True):
        np.testing.assert_allclose(mean, (a + b) / 2, atol=1e-6)
