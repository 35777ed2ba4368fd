"""ES's equations with worked numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import Function, steps

from parl import ops
from parl.algorithms.es import ES, ESPolicy, ESState, centred_ranks, first_returns, perturbations
from parl.algorithms.wrappers.normalized import Normalized
from parl.core.spec import Box, EnvSpec
from parl.core.types import Array, Rollout, Step

SPEC = EnvSpec("test", Box((1,)), Box((2,)))
THETA = jnp.array([1.0, -2.0])

# The action is the parameters themselves, whatever is observed.
ACTOR = Function(
    lambda p, obs: ops.Normal(jnp.broadcast_to(p, (*obs.shape[:-1], 2)), jnp.zeros(2)), THETA
)


def make(**settings: Any) -> ES:
    given: dict[str, Any] = {"noise_size": 1000} | settings
    return ES(actor=ACTOR, **given)


# -- equations ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "ranks"),
    [
        ([30.0, -1.0, 2.0], [0.5, -0.5, 0.0]),
        ([4.0, 1.0, 3.0, 2.0], [1 / 2, -1 / 2, 1 / 6, -1 / 6]),
        ([5.0, 1.0, 5.0, 0.0], [1 / 3, -1 / 6, 1 / 3, -1 / 2]),  # both 5 have rank 2.5 of 0 .. 3
        ([7.0, 7.0], [0.0, 0.0]),
        ([7.0], [0.0]),
    ],
)
def test_centred_ranks(x: list[float], ranks: list[float]) -> None:
    np.testing.assert_allclose(centred_ranks(jnp.array(x)), ranks, rtol=1e-6)


def test_only_the_first_episode_of_a_column_counts() -> None:
    """One episode goes on to the end, one ends at once, one after two steps and again later."""
    batch = steps(
        obs=np.zeros((4, 3, 1)),
        next_obs=np.zeros((4, 3, 1)),
        reward=[[1.0, 1, 1], [2, 2, 2], [4, 4, 4], [8, 8, 8]],
        last=np.array([[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 1]], bool),
    )
    np.testing.assert_array_equal(first_returns(batch), [15, 1, 3])


def test_perturbations_are_signed_pieces_of_the_noise() -> None:
    drawn = {"start": jnp.array([0, 3, 3]), "sign": jnp.array([1.0, 1.0, -1.0])}
    pieces = perturbations(jnp.arange(5.0), drawn, size=2)
    np.testing.assert_array_equal(pieces, [[0, 1], [3, 4], [-3, -4]])


def test_gradient_is_the_noise_weighted_by_ranks() -> None:
    """Ranks 1/2, -1/2, 1/6, -1/6 of mirrored pairs: (1, 2/3) / (4 * 0.5)."""
    noise = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    gradient = make(sigma=0.5).gradient(jnp.array([4.0, 1.0, 3.0, 2.0]), noise)
    np.testing.assert_allclose(gradient, [1 / 2, 1 / 3], rtol=1e-6)


def generation(returns: list[float], start: list[int], sign: list[float]) -> Rollout:
    """Two steps; the second is of other episodes, with other perturbations."""
    rest = np.ones((2, len(returns)), bool)
    extras = {"start": [start, [7] * len(start)], "sign": [sign, [1.0] * len(sign)]}
    obs = np.zeros((2, len(returns), 1))
    reward = [returns, [100.0 * i for i in range(len(returns))]]
    return Rollout(steps(obs=obs, next_obs=obs, reward=reward, last=rest, extras=extras), ())


def test_update_is_a_step_of_adam_with_weight_decay() -> None:
    """The first step of Adam has the rate's size in every direction, here up, down."""
    algorithm = make(sigma=0.5, learning_rate=0.1, weight_decay=0.2)
    state = algorithm.init(jax.random.key(0), SPEC)
    assert state.noise.shape == (1002,)
    state = state.replace(noise=jnp.array([0.0, 2.0, -1.0, 3.0]))
    # the winners' noise is (2, -1) and -(0, 2), the losers' the opposite: sum (2, -3) / (4 * 0.5)
    batch = generation([3.0, 0.0, 0.0, 3.0], [1, 1, 0, 0], [1.0, -1.0, 1.0, -1.0])
    state, metrics = algorithm.update(state, batch, jax.random.key(1))
    expected = np.array([1.0, -2.0]) * (1 - 0.1 * 0.2) + [0.1, -0.1]
    np.testing.assert_allclose(state.net.params, expected, rtol=1e-5)
    gradient = 2 * (1 / 3) * np.array([2, -3]) / (4 * 0.5)  # ranks 2.5 and 0.5 of 0 .. 3: +- 1/3
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(gradient), rtol=1e-5)
    np.testing.assert_allclose(metrics["update_norm"], np.hypot(0.08, 0.06), rtol=1e-4)
    assert metrics["population_mean"] == 1.5 and metrics["population_max"] == 3.0


def test_nothing_is_learned_where_all_are_equal() -> None:
    algorithm = make(weight_decay=0.0)
    state = algorithm.init(jax.random.key(0), SPEC)
    batch = generation([9.0] * 4, [1, 1, 0, 0], [1.0, -1.0, 1.0, -1.0])
    after, _ = algorithm.update(state, batch, jax.random.key(1))
    np.testing.assert_array_equal(after.net.params, THETA)


# -- acting ---------------------------------------------------------------------------------------


def act(algorithm: ES, memory: Any, seed: int, explore: bool = True) -> tuple[Any, Any, Any]:
    size = len(memory["sign"])
    policy = algorithm.policy(algorithm.init(jax.random.key(0), SPEC))
    return algorithm.act(policy, np.zeros((size, 1)), memory, jax.random.key(seed), explore)


def test_members_act_with_mirrored_perturbations() -> None:
    algorithm = make(sigma=0.5)
    action, memory, extras = act(algorithm, algorithm.memory((6,)), seed=1)
    noise = algorithm.init(jax.random.key(0), SPEC).noise
    np.testing.assert_array_equal(memory["sign"], [1, -1, 1, -1, 1, -1])
    starts = np.asarray(memory["start"])
    np.testing.assert_array_equal(starts[::2], starts[1::2])
    assert len(set(starts.tolist())) == 3
    np.testing.assert_allclose(action[2], THETA + 0.5 * noise[starts[2] : starts[2] + 2], rtol=1e-6)
    signed = perturbations(noise, extras, size=2)
    np.testing.assert_array_equal(signed[::2] + signed[1::2], np.zeros((3, 2)))
    np.testing.assert_allclose(action, THETA + 0.5 * signed, rtol=1e-6)
    assert action.shape == (6, 2) and np.all(action[0] != action[1])


def test_a_member_keeps_its_perturbation_for_an_episode() -> None:
    """At the second step of all but the last, whose memory an end of episode has wiped."""
    algorithm = make()
    first, memory, _ = act(algorithm, algorithm.memory((4,)), seed=1)
    wiped = jax.tree.map(lambda x: x.at[3].set(0), memory)
    second, memory, _ = act(algorithm, wiped, seed=2)
    np.testing.assert_array_equal(second[:3], first[:3])
    assert np.all(second[3] != first[3]) and memory["sign"][3] == -1
    np.testing.assert_array_equal(act(algorithm, algorithm.memory((4,)), seed=1)[0], first)


def test_odd_populations_leave_one_without_its_mirror_image() -> None:
    algorithm = make()
    _, memory, _ = act(algorithm, algorithm.memory((3,)), seed=1)
    np.testing.assert_array_equal(memory["sign"], [1, -1, 1])
    assert memory["start"][0] == memory["start"][1] != memory["start"][2]


def test_greedy_actions_are_those_of_the_mean() -> None:
    algorithm = make()
    action, memory, extras = act(algorithm, algorithm.memory((3,)), seed=1, explore=False)
    np.testing.assert_array_equal(action, np.tile(THETA, (3, 1)))
    assert extras == {} and not memory["sign"].any()


def test_rollouts_open_new_episodes_also_under_a_wrapper() -> None:
    assert make().episodic and Normalized(make()).episodic


# -- both -----------------------------------------------------------------------------------------


def test_the_mean_climbs_a_quadratic() -> None:
    """Return -|action - (0.5, 1)|^2 of one-step episodes, 300 generations of 16."""
    algorithm, top = make(sigma=0.05, learning_rate=0.02, weight_decay=0.0), jnp.array([0.5, 1.0])
    obs = jnp.zeros((16, 1))

    def step(state: ESState, key: Array) -> tuple[ESState, Array]:
        policy: ESPolicy = algorithm.policy(state)
        action, _, extras = algorithm.act(policy, obs, algorithm.memory((16,)), key, explore=True)
        reward = -((action - top) ** 2).sum(-1)
        one = {"obs": obs, "next_obs": obs, "action": action, "reward": reward, "extras": extras}
        one |= {"discount": obs[:, 0], "first": obs[:, 0] == 0, "last": obs[:, 0] == 0}
        batch = Rollout(jax.tree.map(lambda x: x[None], Step(**one)), ())
        state, metrics = algorithm.update(state, batch, key)
        return state, metrics["population_mean"]

    @jax.jit
    def evolve(key: Array) -> tuple[ESState, Array]:
        return jax.lax.scan(step, algorithm.init(key, SPEC), jax.random.split(key, 300))

    end, mean = evolve(jax.random.key(1))
    assert mean[0] < -8  # |(1, -2) - (0.5, 1)|^2 = 9.25
    assert mean[-50:].mean() > -0.05
    np.testing.assert_allclose(end.net.params, top, atol=0.1)
