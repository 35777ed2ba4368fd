"""Federated clients: who takes part, what is averaged, and that one client is the plain run."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import CARTPOLE, LENGTH, NUM_ENVS, make_learner

from parl import ops
from parl.agents.execution.clients import Clients, ClientShard, averaged, plan, to_device
from parl.agents.execution.federated import Federated, InlineShards
from parl.agents.execution.fused import Fused, collect
from parl.agents.execution.protocol import Seeds
from parl.agents.learner import LearnerState
from parl.core.checkpoint import Checkpoint, named_leaves, params_sha256, to_numpy
from parl.core.seeding import run_keys
from parl.core.types import Net, Rollout
from parl.envs.randomized import Randomized, Range
from parl.recipes import make_recipe


def federated(clients: Clients, env: Any = CARTPOLE, learner: Any = None) -> Federated:
    learner = make_learner("pg") if learner is None else learner
    size = NUM_ENVS, LENGTH
    shard = ClientShard(env, learner, clients, range(clients.number), *size)
    return Federated(env, learner, clients, InlineShards(shard), *size)


def shard_of(run: Federated) -> ClientShard:
    assert isinstance(run.shards, InlineShards)
    return run.shards.shard


def floats(tree: Any) -> list[Any]:
    return [x for x in jax.tree.leaves(tree) if x.dtype == jnp.float32]


def digest(execution: Any) -> str:
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
    step: Any = optimizer.update(jnp.array(3.0), moved.opt, moved.params)[0]
    assert float(step) == pytest.approx(-0.35)
    step = optimizer.update(jnp.array(3.0), ops.recentered(moved).opt, moved.params)[0]
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
    alone = [shard_of(wave).round(before, here.clients[i : i + 1], at, 0) for i in range(3)]
    expected = [np.mean(x, 0) for x in zip(*(parts[0].floats for parts in alone), strict=True)]
    fresh = federated(wave.clients, wave.env)
    fresh.advance(1)
    for leaf, mean in zip(floats(fresh.algorithm_state), expected, strict=True):
        np.testing.assert_allclose(leaf, mean, atol=1e-6)
    assert not np.array_equal(floats(fresh.algorithm_state)[0], floats(before.algorithm_state)[0])
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
    rest.restore(Checkpoint(Path(), shot.meta, {k: x.copy() for k, x in arrays.items()}))
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
    shard = shard_of(both)
    shard.actors = jax.tree.map(lambda x: np.repeat(x[:1], 2, 0), shard.actors)
    state = both.state
    parts = shard.round(state, np.array([0, 0]), np.array([1, 1]), 0)
    one.advance(1)
    got = averaged(state, parts).algorithm_state
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(one.algorithm_state), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def plain_sgd(rate: Any, eps: float = 0.0) -> optax.GradientTransformation:
    return optax.sgd(rate)


@pytest.mark.slow
def test_averaging_every_step_of_sgd_is_data_parallel() -> None:
    """The mean of two clients' steps is one step on their joint batch."""
    recipe = make_recipe("a2c", CARTPOLE.spec).override(
        {"hidden": (6,), "length": LENGTH, "num_envs": NUM_ENVS, "anneal": False}
    )
    learner = recipe.learner(CARTPOLE.spec, 10_000, NUM_ENVS)
    algorithm: Any = learner.algorithm
    algorithm = algorithm.replace(optimizer=plain_sgd, max_grad_norm=1e9, learning_rate=0.1)
    learner = learner.replace(algorithm=algorithm)
    both = federated(Clients(2, seed=5), learner=learner)
    state, actors = both.state, to_device(both.shards.actors)

    def rollout(index: int) -> Rollout:
        actor = jax.tree.map(lambda x: x[index], actors)
        key = jax.random.fold_in(run_keys(5 + index).act, 0)
        policy = algorithm.policy(state.algorithm_state)
        return collect(CARTPOLE, algorithm, policy, actor, key, LENGTH)[1]

    one, other = rollout(0), rollout(1)
    steps = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), one.steps, other.steps)
    joint, _ = algorithm.update(state.algorithm_state, Rollout(steps, ()), jax.random.key(0))
    both.advance(1)
    for mean, at_once in zip(floats(both.algorithm_state), floats(joint), strict=True):
        np.testing.assert_allclose(mean, at_once, atol=1e-6)
    assert not np.allclose(floats(joint)[0], floats(state.algorithm_state)[0], atol=1e-4)
