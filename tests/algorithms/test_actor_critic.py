"""What actor-critics share, with worked numbers: acting and values with memory, targets."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import ADDING_ACTOR, ADDING_CRITIC, Function, played, steps

from parl import ops
from parl.algorithms.shared.actor_critic import ActorCritic, Memory
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Rollout
from parl.models import CELLS, MLP, CategoricalPolicy, Recurrent, Value, cell_output

SPEC = EnvSpec("test", Box((1,)), Discrete(2))
ACTOR = Function(lambda p, obs: ops.Categorical(p * obs * jnp.array([1.0, -1.0])), jnp.float32(1))
CRITIC = Function(lambda p, obs: p * obs[..., 0], jnp.float32(1))
RECURRENT = ActorCritic(actor=ADDING_ACTOR, critic=ADDING_CRITIC)
CELL = CELLS["gru"](3)
GRU = ActorCritic(
    actor=Recurrent(
        SPEC.observation_space,
        MLP((4,)),
        CELL,
        CategoricalPolicy(cell_output(3), Discrete(2), MLP(())),
    ),
    critic=Recurrent(SPEC.observation_space, MLP((4,)), CELL, Value(cell_output(3), MLP(()))),
)


def start(algorithm: ActorCritic) -> Any:
    return jax.jit(lambda key: algorithm.init(key, SPEC))(jax.random.key(0))


# -- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("actor", [ACTOR, ADDING_ACTOR], ids=["plain", "recurrent"])
@pytest.mark.parametrize("critic", [CRITIC, ADDING_CRITIC], ids=["plain", "recurrent"])
def test_only_what_acting_needs_is_remembered_and_sent(actor: Any, critic: Any) -> None:
    algorithm = ActorCritic(actor=actor, critic=critic)
    memory, zeros = algorithm.memory((2,)), np.zeros(2)
    policy = algorithm.policy(start(algorithm))
    assert set(policy) == ({"actor", "critic"} if critic is ADDING_CRITIC else {"actor"})
    if actor is ACTOR and critic is CRITIC:
        assert memory == ()
    else:
        np.testing.assert_array_equal(memory.actor, zeros if actor is ADDING_ACTOR else ())
        np.testing.assert_array_equal(memory.critic, zeros if critic is ADDING_CRITIC else ())
    for explore in (True, False):
        obs, key = jnp.array([[2.0], [-3.0]]), jax.random.key(0)
        action, after, extras = algorithm.act(policy, obs, memory, key, explore)
        assert jax.tree.structure(after) == jax.tree.structure(memory)
        for part in jax.tree.leaves(after):
            np.testing.assert_array_equal(part, [2, -3])
        assert explore == bool(extras)
        if not explore:
            np.testing.assert_array_equal(action, [0, 1])


def test_values_of_next_observations_remember_the_episode() -> None:
    """With a value that is the sum of what was seen: V(next_obs) = V(obs) + next_obs."""
    state = start(RECURRENT)
    for rollout in played(RECURRENT, state):
        recorded, total = rollout.steps, np.asarray(rollout.memory.critic)
        sums = np.zeros((4, 3), np.float32)
        for t in range(4):
            sums[t] = total = np.where(recorded.first[t], 0, total) + recorded.obs[t, :, 0]
        _, value, next_value = RECURRENT.values_of(state.net.params, rollout)
        np.testing.assert_allclose(value, sums, rtol=1e-5, atol=1e-6)
        expected = sums + recorded.next_obs[..., 0]
        np.testing.assert_allclose(next_value, expected, rtol=1e-5, atol=1e-6)


def test_sequences_give_what_single_steps_gave() -> None:
    """With networks as the recipes make them, across resets and on from mid-episode."""
    state = start(GRU)
    evaluate = jax.jit(lambda rollout: GRU.values_of(state.net.params, rollout))
    for rollout in played(GRU, state):
        recorded = rollout.steps
        pi, value, next_value = evaluate(rollout)
        log_prob = pi.log_prob(recorded.action)
        np.testing.assert_allclose(log_prob, recorded.extras["log_prob"], rtol=1e-5)
        going = ~recorded.last[:-1]
        np.testing.assert_allclose(next_value[:-1][going], value[1:][going], rtol=1e-5)
        assert np.abs(next_value[:-1] - value[1:])[~going].min() > 1e-3
        assert jax.tree.map(jnp.shape, rollout.memory) == Memory((3, 3), (3, 3))


# -- targets --------------------------------------------------------------------------------------


def test_targets_are_lambda_returns_or_v_trace() -> None:
    """Two steps, V = (1, 2) then 4; gamma lambda = 0.25; probabilities of a halved, then doubled.

    delta_1 = 20 + 0.5 * 4 - 2 = 20 and delta_0 = 10 + 0.5 * 2 - 1 = 10.
    """
    batch = steps(obs=[[[1.0]], [[2.0]]], next_obs=[[[2.0]], [[4.0]]], reward=[[10.0], [20.0]])
    value, next_value = jnp.array([[1.0], [2.0]]), jnp.array([[2.0], [4.0]])
    log_rhos = jnp.log(jnp.array([[0.5], [2.0]]))
    algorithm = ActorCritic(gamma=0.5, lambda_=0.5)
    advantage, target = algorithm.targets(log_rhos, algorithm.transitions(batch, value, next_value))
    np.testing.assert_allclose(advantage[:, 0], [10 + 0.25 * 20, 20], rtol=1e-6)
    np.testing.assert_allclose(target[:, 0], [16, 22], rtol=1e-6)
    corrected = algorithm.replace(corrected=True)
    advantage, target = corrected.targets(log_rhos, corrected.transitions(batch, value, next_value))
    np.testing.assert_allclose(advantage[:, 0], [0.5 * (10 + 0.25 * 20), 20], rtol=1e-6)
    np.testing.assert_allclose(target[:, 0], [1 + 0.5 * (10 + 0.25 * 20), 22], rtol=1e-6)
    assert corrected.tolerates_lag and not algorithm.tolerates_lag


def test_no_gradient_flows_through_targets() -> None:
    batch = steps(obs=np.ones((2, 1, 1)), next_obs=np.ones((2, 1, 1)), reward=np.ones((2, 1)))
    for corrected in (False, True):
        algorithm = ActorCritic(corrected=corrected)

        def total(log_rhos: Any, *values: Any, algorithm: Any = algorithm) -> Any:
            deltas = algorithm.transitions(batch, *values)
            return sum(y.sum() for y in algorithm.targets(log_rhos, deltas))

        grads = jax.grad(total, (0, 1, 2))(*jnp.ones((3, 2, 1)))
        assert not np.any(grads)


# -- the optimiser --------------------------------------------------------------------------------


def test_annealing_is_linear_in_updates_and_ends_at_zero() -> None:
    algorithm = ActorCritic(anneal_updates=4, learning_rate=0.1)
    optimizer, grads = algorithm.transformation, jnp.full(1, 0.1)
    state, sizes = optimizer.init(grads), []
    for _ in range(6):
        update, state = optimizer.update(grads, state)
        sizes.append(-float(jax.tree.leaves(update)[0][0]))
    np.testing.assert_allclose(sizes, [0.1, 0.075, 0.05, 0.025, 0, 0], rtol=1e-3, atol=1e-9)
    assert ActorCritic(learning_rate=0.1).rate == 0.1


EVERYWHERE = np.ones((4, 3), bool)  # an episode was cut: no next_obs is the obs after it


def test_the_agent_axis_is_one_more_batch_axis() -> None:
    obs, next_obs = np.random.default_rng(0).normal(size=(2, 4, 3, 2, 1))  # [T, B, N, O]
    both = steps(obs=obs, next_obs=next_obs, reward=np.ones((4, 3)), last=EVERYWHERE)
    params = {"actor": jnp.float32(1), "critic": jnp.float32(2)}
    algorithm = ActorCritic(actor=ACTOR, critic=CRITIC)
    _, value, next_value = algorithm.values_of(params, Rollout(both, ()))
    np.testing.assert_allclose(value, 2 * obs[..., 0], rtol=1e-6)
    np.testing.assert_allclose(next_value, 2 * next_obs[..., 0], rtol=1e-6)


def test_a_shared_encoder_stands_before_actor_and_critic() -> None:
    encoder = Function(lambda p, obs: p * obs, jnp.float32(3))
    algorithm = ActorCritic(encoder=encoder, actor=ACTOR, critic=CRITIC)
    state = start(algorithm)
    assert set(algorithm.policy(state)) == {"encoder", "actor"}
    obs, next_obs = np.random.default_rng(0).normal(size=(2, 4, 3, 1))  # [T, B, O]
    batch = Rollout(steps(obs=obs, next_obs=next_obs, reward=np.ones((4, 3)), last=EVERYWHERE), ())
    pi, value, next_value = algorithm.values_of(state.net.params, batch)
    np.testing.assert_allclose(value, 3 * obs[..., 0], rtol=1e-6)
    np.testing.assert_allclose(next_value, 3 * next_obs[..., 0], rtol=1e-6)
    np.testing.assert_allclose(pi.logits, 3 * obs * [1, -1], rtol=1e-6)
    action, _, _ = algorithm.act(algorithm.policy(state), obs[0], (), jax.random.key(0), False)
    np.testing.assert_array_equal(action, obs[0, :, 0] < 0)
