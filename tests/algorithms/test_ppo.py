"""PPO's equations with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import ADDING_ACTOR, ADDING_CRITIC, Function, played, steps

from parl import ops
from parl.algorithms.ppo import PPO, Sample
from parl.algorithms.shared.actor_critic import ActorCriticState
from parl.algorithms.shared.minibatches import sweep
from parl.core.errors import ConfigError
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Net, Rollout

SPEC = EnvSpec("test", Box((1,)), Discrete(2))
LOG3 = np.log(3).astype(np.float32)

# The actor's probabilities do not depend on obs; the critic is linear in it.
ACTOR = Function(
    lambda p, obs: ops.Categorical(jnp.broadcast_to(p, (*obs.shape[:-1], 2))), jnp.zeros(2)
)
CRITIC = Function(lambda p, obs: p * obs[..., 0], jnp.ones(()))


UPDATE = jax.jit(PPO.update)  # one program for all of one structure


def make(**settings: Any) -> PPO:
    return PPO(actor=ACTOR, critic=CRITIC, **settings)


# Two samples with ratios 0.75 / 0.5 = 1.5 and 0.25 / 0.5 = 0.5, advantages 3 and 1 that
# normalise to 1 and -1, and values 0 and 2 that become 1.
PARAMS = {"actor": jnp.array([LOG3, 0.0]), "critic": jnp.float32(1)}
SAMPLE = Sample(
    obs=jnp.ones((2, 1)),
    first=jnp.zeros(2, bool),
    action=jnp.array([0, 1]),
    log_prob=jnp.log(jnp.array([0.5, 0.5])),
    value=jnp.array([0.0, 2.0]),
    advantage=jnp.array([3.0, 1.0]),
    target=jnp.array([3.0, 3.0]),
    memory=(),
)
ENTROPY = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))


def test_clipped_surrogate_value_error_and_entropy() -> None:
    loss, metrics = make(entropy_cost=0.1).loss(PARAMS, SAMPLE)
    # -(min(1.5, 1.2) * 1 + min(0.5 * -1, 0.8 * -1)) / 2
    np.testing.assert_allclose(metrics["policy_loss"], -0.2, rtol=1e-5)
    np.testing.assert_allclose(metrics["value_loss"], 0.5 * (4 + 4) / 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["entropy"], ENTROPY, rtol=1e-6)
    kl = ((0.5 - np.log(1.5)) + (-0.5 - np.log(0.5))) / 2
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(loss, -0.2 + 0.5 * 2 - 0.1 * ENTROPY, rtol=1e-5)


def test_no_gradient_beyond_the_clip() -> None:
    grad = jax.grad(lambda p, algorithm: algorithm.loss(p, SAMPLE)[0])
    np.testing.assert_array_equal(grad(PARAMS, make())["actor"], [0, 0])
    # within a clip of 0.6: d/dlogit0 -(1.5 A0 (1 - .75) + 0.5 A1 (0 - .75)) / 2 = -0.375
    np.testing.assert_allclose(grad(PARAMS, make(clip=0.6))["actor"], [-0.375, 0.375], rtol=1e-5)


def test_value_clipping_takes_the_larger_error() -> None:
    """Old values 0 and 2, new 1, targets 3: clipped to 0.2 and 1.8, errors 2.8 and 1.2 or 2."""
    _, metrics = make(clip_value=True).loss(PARAMS, SAMPLE)
    np.testing.assert_allclose(metrics["value_loss"], 0.5 * (2.8**2 + 2**2) / 2, rtol=1e-6)
    grad = jax.grad(lambda p: make(clip_value=True, value_cost=1.0).loss(p, SAMPLE)[0])(PARAMS)
    np.testing.assert_allclose(grad["critic"], -2 / 2, rtol=1e-6)  # of the second sample only


def test_advantages_bootstrap_at_time_limits_and_not_at_terminations() -> None:
    """Three episodes of two steps side by side: one goes on, one is cut, one terminates at t=0."""
    batch = steps(
        obs=[[[1.0]] * 3, [[2.0]] * 3],
        next_obs=[[[2.0], [5.0], [5.0]], [[3.0]] * 3],
        reward=[[10.0] * 3, [20.0] * 3],
        discount=[[1, 1, 0.0], [1, 1, 1]],
        last=[[False, True, True], [False] * 3],
        extras={"log_prob": np.zeros((2, 3))},
    )
    sample = make(gamma=0.5, lambda_=0.5).samples(PARAMS, Rollout(batch, ()))
    later = 20 + 0.5 * 3 - 2  # = 19.5
    first = [10 + 0.5 * 2 - 1 + 0.25 * later, 10 + 0.5 * 5 - 1, 10 - 1]
    np.testing.assert_allclose(sample.advantage, [*first, later, later, later], rtol=1e-6)
    np.testing.assert_array_equal(sample.value, [1, 1, 1, 2, 2, 2])
    np.testing.assert_allclose(sample.target, sample.value + sample.advantage, rtol=1e-6)
    assert sample.obs.shape == (6, 1) and sample.action.shape == (6,)


def test_the_agent_axis_is_one_more_batch_axis() -> None:
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 4, 3, 2, 1))  # [T, B, N, O]
    reward = rng.normal(size=(4, 3, 2))
    discount, last = np.ones((4, 3)), np.arange(12).reshape(4, 3) % 5 == 0  # [T, B]
    extras = {"log_prob": rng.normal(size=(4, 3, 2))}
    both = steps(
        obs=obs, next_obs=next_obs, reward=reward, discount=discount, last=last, extras=extras
    )
    one = jax.tree.map(lambda x: x[:, :, 1] if x.ndim > 2 else x, both)
    several, alone = (make().samples(PARAMS, Rollout(part, ())) for part in (both, one))
    np.testing.assert_allclose(several.advantage[:, 1], alone.advantage, rtol=1e-5)


@pytest.fixture(scope="module")
def rollout() -> Rollout:
    """Four steps in two environments; action 0 is rewarded."""
    action = np.arange(8).reshape(4, 2) % 2
    obs = np.random.default_rng(0).normal(size=(5, 2, 1))
    batch = steps(
        obs=obs[:4],
        next_obs=obs[1:],
        action=action,
        reward=1.0 - action,
        extras={"log_prob": np.full((4, 2), np.log(0.5))},
    )
    return Rollout(batch, ())


def train(rollout: Rollout, updates: int = 1, **settings: Any) -> list[ActorCriticState]:
    """The states after 0, 1, ... updates."""
    algorithm = make(minibatches=1, learning_rate=0.1, **settings)
    states = [algorithm.init(jax.random.key(0), SPEC)]
    for i in range(updates):
        states.append(UPDATE(algorithm, states[-1], rollout, jax.random.key(i))[0])
    return states


def assert_close(a: Any, b: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), a, b)


def count(state: ActorCriticState) -> int:
    """Steps that the optimiser made."""
    opt: Any = state.net.opt
    return int(opt[1][0].count)


def test_updates_raise_the_probability_of_what_was_better(rollout: Rollout) -> None:
    end = train(rollout, updates=3, epochs=2)[-1]
    assert jax.nn.softmax(end.net.params["actor"])[0] > 0.6
    assert count(end) == 6


def test_kl_stop_freezes_everything_after_it_is_exceeded(rollout: Rollout) -> None:
    """At the first step the policies are equal, at the second their divergence is seen."""
    one_step = train(rollout, epochs=1)[-1]
    stopped = train(rollout, epochs=5, target_kl=1e-4)[-1]
    assert count(stopped) == 1
    assert_close(stopped.net, one_step.net)
    free, generous = train(rollout, epochs=5)[-1], train(rollout, epochs=5, target_kl=1e3)[-1]
    assert count(free) == 5
    assert_close(generous.net, free.net)
    # the next update, of what the new policy did, starts anew
    log_prob = jax.nn.log_softmax(stopped.net.params["actor"])[rollout.steps.action]
    fresh = rollout._replace(steps=rollout.steps._replace(extras={"log_prob": log_prob}))
    algorithm = make(minibatches=1, epochs=5, target_kl=1e-4, learning_rate=0.1)
    assert count(UPDATE(algorithm, stopped, fresh, jax.random.key(1))[0]) == 2


def test_kl_stop_lasts_to_the_end_of_the_update(rollout: Rollout) -> None:
    """Minibatches of one sample: half of them lie beyond the limit, half of them at a KL of 0.

    The first of the former ends it, so that at most the four others make a step, and once each.
    """
    log_prob = np.log(np.tile([[0.5, 0.1]], (4, 1))).astype(np.float32)
    mixed = rollout._replace(steps=rollout.steps._replace(extras={"log_prob": log_prob}))
    settings: dict[str, Any] = {"epochs": 3, "minibatches": 8, "learning_rate": 1e-6}
    algorithm = make(target_kl=0.1, **settings)
    state = algorithm.init(jax.random.key(0), SPEC)
    made = lambda rule, i: count(UPDATE(rule, state, mixed, jax.random.key(i))[0])
    assert [made(algorithm, i) <= 4 for i in range(3)] == [True] * 3
    assert made(make(**settings), 0) == 24


def test_annealing_is_linear_and_ends_at_zero() -> None:
    algorithm = make(epochs=2, minibatches=2, anneal_updates=2, learning_rate=0.1)
    optimizer, grads = algorithm.transformation, jnp.full(1, 0.1)
    state, sizes = optimizer.init(grads), []
    for _ in range(10):
        update: Any
        update, state = optimizer.update(grads, state)
        sizes.append(-float(update[0]))
    # Adam's step on a constant gradient is the rate; 8 steps are 2 updates of 2 x 2
    expected = [0.1 * max(0, 1 - t / 8) for t in range(10)]
    np.testing.assert_allclose(sizes, expected, rtol=1e-3, atol=1e-9)


def test_annealed_parameters_stand_still_in_the_end(rollout: Rollout) -> None:
    states = train(rollout, updates=3, epochs=2, anneal_updates=2)
    params = [state.net.params for state in states]
    assert (params[1]["actor"] != params[2]["actor"]).all()
    jax.tree.map(np.testing.assert_array_equal, params[2], params[3])


def test_the_global_norm_is_clipped() -> None:
    """Through Adam the clip shows in its moments: mu = 0.1 * clipped gradient."""
    optimizer = make(max_grad_norm=0.5).transformation
    grads = jnp.array([3.0, 4.0])
    state: Any = optimizer.update(grads, optimizer.init(grads))[1]
    np.testing.assert_allclose(state[1][0].mu, [0.1 * 0.3, 0.1 * 0.4], rtol=1e-5)


def test_every_sample_is_used_once_per_epoch(rollout: Rollout) -> None:
    """Minibatches of a shuffled epoch: the mean of their value losses is that of the whole."""
    algorithm = make(epochs=1, minibatches=4, learning_rate=0.0)
    state = algorithm.init(jax.random.key(0), SPEC)
    _, metrics = jax.jit(algorithm.update)(state, rollout, jax.random.key(5))
    data = algorithm.samples(state.net.params, rollout)
    np.testing.assert_allclose(metrics["value_loss"], 0.5 * np.mean(data.advantage**2), rtol=1e-5)


def test_acting() -> None:
    algorithm, obs = make(), jnp.zeros((1000, 1))
    policy = algorithm.policy(ActorCriticState(Net(PARAMS, ())))
    action, memory, extras = algorithm.act(policy, obs, (), jax.random.key(0), explore=True)
    np.testing.assert_allclose(np.mean(action == 0), 0.75, atol=0.05)
    np.testing.assert_allclose(extras["log_prob"], np.log(np.where(action == 0, 0.75, 0.25)), 1e-5)
    greedy, _, extras = algorithm.act(policy, obs, (), jax.random.key(0), explore=False)
    assert not greedy.any() and extras == {} and memory == ()


# -- rollouts of older policies -------------------------------------------------------------------


def lagging(rng: np.random.Generator, log_prob: Any) -> Rollout:
    """Five steps in three environments, acted on with these log-probabilities [T, B]."""
    obs, next_obs = rng.normal(size=(2, 5, 3, 1))
    last = rng.random((5, 3)) < 0.3
    discount = np.where(last & (rng.random((5, 3)) < 0.5), 0.0, 1.0)
    action, reward = rng.integers(2, size=(5, 3)), rng.normal(size=(5, 3))
    extras = {"log_prob": np.broadcast_to(log_prob, (5, 3))}
    fields = {"obs": obs, "next_obs": next_obs, "action": action, "last": last}
    return Rollout(steps(reward=reward, discount=discount, extras=extras, **fields), ())


def test_without_lag_the_correction_changes_nothing() -> None:
    rollout = lagging(np.random.default_rng(3), 0.0)
    log_prob = np.log(np.where(rollout.steps.action == 0, 0.75, 0.25)).astype(np.float32)
    rollout = rollout._replace(steps=rollout.steps._replace(extras={"log_prob": log_prob}))
    samples = jax.jit(lambda rule: rule.samples(PARAMS, rollout))
    loss = jax.jit(lambda sample: make(entropy_cost=0.1).loss(PARAMS, sample)[0])
    for lambda_ in (1.0, 0.9):
        plain, corrected = (samples(make(lambda_=lambda_, corrected=c)) for c in (False, True))
        assert_close(plain, corrected)
        np.testing.assert_allclose(loss(plain), loss(corrected), rtol=1e-5)


def test_with_lag_the_correction_is_v_trace_and_the_ratio_starts_at_one() -> None:
    """Both actions had the probability 0.5; now they have 0.75 and 0.25."""
    rollout = lagging(np.random.default_rng(3), np.log(0.5))
    steps, gamma, lambda_ = rollout.steps, 0.9, 0.8
    algorithm = make(corrected=True, gamma=gamma, lambda_=lambda_)
    sample = algorithm.samples(PARAMS, rollout)
    value, next_value = steps.obs[..., 0], steps.next_obs[..., 0]
    rho = np.where(steps.action == 0, 1.0, 0.5)  # min(1, 1.5) and min(1, 0.5)
    error, expected = np.zeros(3), np.zeros((2, 5, 3))
    for t in reversed(range(5)):
        going = gamma * steps.discount[t] * ~steps.last[t]
        delta = steps.reward[t] + gamma * steps.discount[t] * next_value[t] - value[t]
        advantage = rho[t] * (delta + lambda_ * going * error)
        error = rho[t] * delta + going * lambda_ * rho[t] * error
        expected[:, t] = advantage, value[t] + error
    np.testing.assert_allclose(sample.advantage, expected[0].reshape(-1), rtol=1e-5)
    np.testing.assert_allclose(sample.target, expected[1].reshape(-1), rtol=1e-5)
    np.testing.assert_allclose(algorithm.loss(PARAMS, sample)[1]["kl"], 0, atol=1e-7)
    assert make().loss(PARAMS, make().samples(PARAMS, rollout))[1]["kl"] > 0.05
    assert algorithm.tolerates_lag and not make().tolerates_lag


# -- memory ---------------------------------------------------------------------------------------

RECURRENT = PPO(actor=ADDING_ACTOR, critic=ADDING_CRITIC)


@pytest.mark.parametrize("corrected", [False, True])
def test_learning_remembers_what_acting_did(corrected: bool) -> None:
    """The ratio starts at 1: in a rollout that goes on in mid-episode, and behind resets."""
    algorithm = RECURRENT.replace(corrected=corrected)
    state = algorithm.init(jax.random.key(0), SPEC)
    kl = lambda params, sample: algorithm.loss(params, sample)[1]["kl"]
    for rollout in played(algorithm, state):
        sample = algorithm.samples(state.net.params, rollout)
        assert sample.obs.shape == (3, 4, 1) and sample.memory.actor.shape == (3,)
        np.testing.assert_allclose(sample.log_prob, rollout.steps.extras["log_prob"].T, atol=1e-5)
        np.testing.assert_allclose(kl(state.net.params, sample), 0, atol=1e-7)
        forgot = sample.replace(memory=jax.tree.map(jnp.zeros_like, sample.memory))
        goes_on = not rollout.steps.first[0].all()
        assert (kl(state.net.params, forgot) > 1e-3) == goes_on


def test_sequences_stay_whole_in_minibatches() -> None:
    """One environment each: the mean of their losses is that of the whole."""
    algorithm = RECURRENT.replace(minibatches=3, epochs=1, learning_rate=0.0)
    state = algorithm.init(jax.random.key(0), SPEC)
    rollout = played(algorithm, state)[1]
    _, metrics = jax.jit(algorithm.update)(state, rollout, jax.random.key(5))
    _, whole = algorithm.loss(state.net.params, algorithm.samples(state.net.params, rollout))
    for name in ("value_loss", "entropy", "kl"):
        np.testing.assert_allclose(metrics[name], whole[name], rtol=1e-5, atol=1e-7)
    assert metrics["value_loss"] > 0.1


def test_samples_that_do_not_divide_are_one_sentence() -> None:
    with pytest.raises(
        ConfigError, match=r"rollout of 3 steps or sequences .* 2 equal minibatches"
    ):
        sweep(lambda carry, x: (carry, {}), 0, {"x": jnp.zeros((3, 1))}, jax.random.key(0), 1, 2)
