"""Running statistics, and what a wrapped algorithm gets to see."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import steps

from parl.algorithms.wrappers.normalized import CLIP_NORMALIZED, Normalized, Stats
from parl.core.algorithm import Algorithm
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Rollout, Step

SPACE = {
    "image": Box((2, 2, 1), "uint8"),
    "legal": Box((2,), "bool"),
    "mode": Discrete(3),
    "x": Box((3,)),
}
SPEC = EnvSpec("test", SPACE, Discrete(2))
SCALE, SHIFT = np.array([1.0, 10.0, 0.1]), np.array([0.0, -50.0, 3.0])


class Spy(Algorithm):
    """Hands back what it was given."""

    rate: float = 0.5

    def init(self, key: Any, spec: EnvSpec) -> Any:
        return jnp.zeros((), jnp.int32)

    def policy(self, state: Any) -> Any:
        return state

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        return obs, memory, {"explored": jnp.bool_(explore)}

    def update(self, state: Any, batch: Any, key: Any) -> Any:
        return state + 1, {"batch": batch}

    def observe(self, state: Any, rollout: Rollout) -> Any:
        return state + 100

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        return jnp.full(batch_shape, 7)


def make_rollout(seed: int, T: int = 6, B: int = 4) -> Rollout:
    rng = np.random.default_rng(seed)

    def obs() -> dict[str, np.ndarray]:
        return {
            "image": rng.integers(256, size=(T, B, 2, 2, 1)).astype(np.uint8),
            "legal": rng.random((T, B, 2)) < 0.5,
            "mode": rng.integers(3, size=(T, B)).astype(np.int32),
            "x": rng.normal(size=(T, B, 3)) * SCALE + SHIFT,
        }

    first = rng.random((T, B)) < 0.3
    reward = 5 * rng.normal(size=(T, B)) + 20
    return Rollout(steps(obs=obs(), next_obs=obs(), reward=reward, first=first), ())


ROLLOUTS = [make_rollout(seed) for seed in range(20)]
BOTH = Normalized(Spy(), gamma=0.9, normalize_obs=True, normalize_reward=True)


def observed(algorithm: Normalized) -> Any:
    state = algorithm.init(jax.random.key(0), SPEC)
    observe = jax.jit(algorithm.observe)
    for rollout in ROLLOUTS:
        state = observe(state, rollout)
    return state


def updated(algorithm: Normalized, state: Any, batch: Any) -> tuple[Any, Any]:
    """(the state after an update, the batch that the inner algorithm saw)."""
    new, metrics = algorithm.update(state, batch, jax.random.key(0))
    return new, metrics["batch"]


@pytest.fixture(scope="module")
def state() -> Any:
    return observed(BOTH)


ALL_X = np.concatenate([r.steps.obs["x"].reshape(-1, 3) for r in ROLLOUTS])
ALL_IMAGES = np.concatenate([r.steps.obs["image"].reshape(-1, 2, 2, 1) for r in ROLLOUTS])


def returns(rollout: Rollout) -> np.ndarray:
    """Discounted sums of the rewards so far, by the definition."""
    reward, first = rollout.steps.reward, rollout.steps.first
    sums = np.zeros_like(reward)
    for t in range(len(reward)):
        sums[t] = reward[t] + (0.9 * sums[t - 1] * ~first[t] if t else 0)
    return sums


# -- moments ------------------------------------------------------------------------------------


def test_streamed_moments_are_those_of_all_the_data(state: Any) -> None:
    assert set(state.obs) == {"['image']", "['x']"}
    for name, data in ("['image']", ALL_IMAGES), ("['x']", ALL_X):
        stats = state.obs[name]
        np.testing.assert_allclose(stats.count, len(data), rtol=1e-5)
        np.testing.assert_allclose(stats.mean, data.mean(0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(stats.std, data.std(0), rtol=1e-4)


def test_blocks_of_any_size_give_the_same_moments() -> None:
    pieces, whole = Stats.zeros((3,)), Stats.zeros((3,)).merge(jnp.asarray(ALL_X))
    for block in np.split(ALL_X, [1, 2, 50, 51, 300]):
        pieces = pieces.merge(jnp.asarray(block))
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pieces.m2, whole.m2, rtol=1e-4)


def test_before_any_data_nothing_is_changed() -> None:
    x = np.array([1.0, -2.0, 3.0])
    np.testing.assert_allclose(Stats.zeros((3,))(jnp.asarray(x)), x, rtol=1e-6)


def test_values_are_centred_scaled_and_clipped() -> None:
    stats = Stats(jnp.float32(4), jnp.array([1.0, 0.0]), jnp.array([16.0, 1.0]))  # std 2, 0.5
    np.testing.assert_allclose(stats(jnp.array([4.0, -1.0])), [1.5, -2.0], rtol=1e-6)
    np.testing.assert_array_equal(
        stats(jnp.array([1e6, -1e6])), [CLIP_NORMALIZED, -CLIP_NORMALIZED]
    )


def test_a_constant_observation_stays_finite() -> None:
    stats = Stats.zeros((1,)).merge(jnp.full((100, 1), 3.0))
    assert np.isfinite(stats(jnp.array([3.0]))).all() and np.abs(stats(jnp.array([3.0]))) < 1e-3


def test_float32_does_not_cancel_far_from_zero() -> None:
    data = 1000 + np.random.default_rng(0).normal(size=(50, 64, 1)).astype(np.float32)
    stats = Stats.zeros((1,))
    for block in data:
        stats = stats.merge(block)
    np.testing.assert_allclose(stats.std, data.std(), rtol=2e-2)


# -- what the inner algorithm sees ----------------------------------------------------------------


def test_update_sees_normal_steps(state: Any) -> None:
    rollout = ROLLOUTS[0]
    new, batch = updated(BOTH, state, rollout)
    seen, raw = batch.steps, rollout.steps
    for ours, theirs in ((seen.obs, raw.obs), (seen.next_obs, raw.next_obs)):
        for name, data in ("image", ALL_IMAGES), ("x", ALL_X):
            expected = (theirs[name] - data.mean(0)) / data.std(0)
            np.testing.assert_allclose(ours[name], expected, rtol=1e-3, atol=1e-3)
        for name in ("legal", "mode"):
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype
    std = returns(joined(ROLLOUTS)).std()  # they go on from rollout to rollout
    np.testing.assert_allclose(seen.reward, (raw.reward / std).clip(-10, 10), rtol=1e-3)
    np.testing.assert_array_equal(seen.first, raw.first)
    assert batch.memory == ()
    assert new.inner == state.inner + 1
    same = lambda a, b: np.testing.assert_array_equal(a, b, "an update moves no statistics")
    jax.tree.map(same, (new.obs, new.reward), (state.obs, state.reward))


def test_a_batch_of_items_is_normalised_too(state: Any) -> None:
    batch = jax.tree.map(lambda x: x[0], ROLLOUTS[0].steps)
    seen, whole = updated(BOTH, state, batch)[1], updated(BOTH, state, ROLLOUTS[0])[1].steps
    np.testing.assert_allclose(seen.obs["x"], whole.obs["x"][0], rtol=1e-6)
    np.testing.assert_allclose(seen.reward, whole.reward[0], rtol=1e-6)


def test_rewards_are_scaled_and_never_shifted(state: Any) -> None:
    seen = updated(BOTH, state, ROLLOUTS[0])[1].steps.reward
    ratio = np.asarray(seen) / ROLLOUTS[0].steps.reward
    np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-5)


def test_discounted_returns_restart_at_episodes() -> None:
    for rollout in ROLLOUTS[:3]:
        assert rollout.steps.first[1:].any()
        np.testing.assert_allclose(BOTH.discounted(rollout.steps, ()), returns(rollout), rtol=1e-5)


def test_acting_uses_the_statistics_that_travel_with_the_policy(state: Any) -> None:
    policy = BOTH.policy(state)
    assert set(policy.obs) == {"['image']", "['x']"} and not hasattr(policy, "reward")
    obs = jax.tree.map(lambda x: x[0], ROLLOUTS[1].steps.obs)
    seen, memory, extras = BOTH.act(policy, obs, 5, jax.random.key(0), explore=True)
    for name, data in ("image", ALL_IMAGES), ("x", ALL_X):
        expected = (obs[name] - data.mean(0)) / data.std(0)
        np.testing.assert_allclose(seen[name], expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(seen["mode"], obs["mode"])
    assert memory == 5 and extras["explored"]


def test_replay_stays_raw() -> None:
    items = BOTH.items(ROLLOUTS[0])
    np.testing.assert_array_equal(items.obs["x"], ROLLOUTS[0].steps.obs["x"].reshape(-1, 3))
    np.testing.assert_array_equal(items.reward, ROLLOUTS[0].steps.reward.reshape(-1))


def test_switches(state: Any) -> None:
    only_obs = observed(Normalized(Spy(), normalize_obs=True, normalize_reward=False))
    np.testing.assert_array_equal(only_obs.obs["['x']"].mean, state.obs["['x']"].mean)
    assert only_obs.reward.count < 1
    only_reward = Normalized(Spy(), 0.9, normalize_obs=False, normalize_reward=True)
    end = observed(only_reward)
    assert end.obs == {}
    np.testing.assert_array_equal(end.reward.m2, state.reward.m2)
    seen = updated(only_reward, end, ROLLOUTS[0])[1].steps
    np.testing.assert_array_equal(seen.obs["x"], ROLLOUTS[0].steps.obs["x"])


def test_inner_algorithm_is_passed_through(state: Any) -> None:
    assert state.inner == 100 * len(ROLLOUTS)
    np.testing.assert_array_equal(BOTH.memory((2, 3)), np.full((2, 3), 7))
    assert jax.tree.leaves(BOTH) == [0.5, 0.9], "hyperparameters of both are leaves"


def test_observations_that_are_one_array() -> None:
    spec = EnvSpec("test", Box((3,)), Discrete(2))
    algorithm = Normalized(Spy())
    state = algorithm.init(jax.random.key(0), spec)
    assert list(state.obs) == [""]
    rollout = jax.tree.map(lambda x: x, ROLLOUTS[0])
    rollout = Rollout(rollout.steps._replace(obs=rollout.steps.obs["x"]), ())
    state = algorithm.observe(state, rollout)
    np.testing.assert_allclose(state.obs[""].mean, rollout.steps.obs.mean((0, 1)), rtol=1e-4)
    seen, _, _ = algorithm.act(
        algorithm.policy(state), rollout.steps.obs[0], (), jax.random.key(0), False
    )
    assert np.abs(seen).max() < 4


def test_statistics_are_a_pytree_that_vmaps() -> None:
    data = jnp.stack([jnp.arange(6.0).reshape(3, 2), jnp.ones((3, 2))])
    empty = jax.vmap(lambda _: Stats.zeros((2,)))(jnp.arange(2))
    both = jax.vmap(Stats.merge)(empty, data)
    np.testing.assert_allclose(both.mean, data.mean(1), atol=1e-3)


# -- returns that go on ---------------------------------------------------------------------------

CARRIED = Normalized(Spy(), 0.9, False, True, num_envs=4, return_bound=2.0)
PLAIN = EnvSpec("test", Box((1,)), Discrete(2))


def paid(reward: Any, first: Any) -> Any:
    """Steps of which only rewards and openings count."""
    nothing = np.zeros((*first.shape, 1))
    return steps(obs=nothing, next_obs=nothing, reward=reward, first=first)


def scaled(T: int, gamma: float = 0.99, episode: int = 1000, **settings: Any) -> float:
    """By what rewards of mean 1 and deviation 1 are divided after 8,192 steps of 8 environments."""
    algorithm = Normalized(Spy(), gamma, False, True, **settings)
    rng, state = np.random.default_rng(0), algorithm.init(jax.random.key(0), PLAIN)
    observe = jax.jit(algorithm.observe)
    for start in range(0, 8192, T):
        reward = (1 + rng.normal(size=(T, 8))).astype(np.float32)
        opens = np.arange(start, start + T) % episode == 0
        first = np.broadcast_to(opens[:, None], reward.shape)
        state = observe(state, Rollout(paid(reward, first), ()))
    return float(state.reward.std)


def test_scaling_does_not_depend_on_the_length_of_rollouts() -> None:
    """Counted anew in each, returns of rollouts of 8 had the deviation 3, of 256 27."""
    short, long = scaled(8), scaled(256)
    np.testing.assert_allclose(short, long, rtol=1e-3)
    np.testing.assert_allclose(long, 22, atol=1.5)
    assert scaled(8, num_envs=0) < 4


def test_returns_by_hand() -> None:
    """R = r + gamma R before it, and r where an episode opens; gamma is a half."""
    algorithm = Normalized(Spy(), 0.5, False, True)
    reward = np.array([[1.0, 8.0], [2.0, 4.0], [3.0, 2.0]], np.float32)
    first = np.array([[True, True], [False, False], [False, True]])
    sums = algorithm.discounted(paid(reward, first))
    np.testing.assert_array_equal(sums, [[1, 8], [2.5, 8], [4.25, 2]])
    on = paid(reward, np.zeros((3, 2), bool))
    for more in (algorithm.discounted(on, sums[-1]), algorithm.discounted(on)):
        np.testing.assert_array_equal(more[0], [1 + 4.25 / 2, 8 + 1])
    np.testing.assert_array_equal(algorithm.discounted(on, ())[0], [1, 8])
    np.testing.assert_array_equal(algorithm.discounted(on)[0], reward[0] + more[-1] / 2)


def test_nothing_of_an_episode_reaches_the_next() -> None:
    reward = np.array([[np.inf, np.nan], [2.0, 3.0]], np.float32)
    first = np.array([[True, True], [True, True]])
    sums = BOTH.discounted(paid(reward, first))
    np.testing.assert_array_equal(sums[1], [2, 3])


def test_each_agent_has_returns_of_its_own() -> None:
    spec = EnvSpec("test", Box((1,)), Discrete(2), num_agents=3)
    state = CARRIED.init(jax.random.key(0), spec)
    assert state.returns.shape == (4, 3)
    reward = np.ones((2, 4, 3), np.float32)
    first = np.zeros((2, 4), bool)
    state = CARRIED.observe(state, Rollout(paid(reward, first), ()))
    np.testing.assert_allclose(state.returns, np.full((4, 3), 1.9), rtol=1e-6)


def carried(rollouts: list[Rollout]) -> Any:
    state = CARRIED.init(jax.random.key(0), SPEC)
    for rollout in rollouts:
        state = CARRIED.observe(state, rollout)
    return state


def joined(rollouts: list[Rollout]) -> Rollout:
    return jax.tree.map(lambda *x: np.concatenate(x), *rollouts)


def test_returns_go_on_from_rollout_to_rollout() -> None:
    """Statistics of pieces are those of the whole, as if it were one rollout."""
    state, sums = carried(ROLLOUTS[:3]), returns(joined(ROLLOUTS[:3]))
    np.testing.assert_allclose(state.returns, sums[-1], rtol=1e-5)
    np.testing.assert_allclose(state.largest, np.abs(sums).max(), rtol=1e-5)
    np.testing.assert_allclose(state.reward.std, sums.std(), rtol=1e-3)
    assert BOTH.init(jax.random.key(0), SPEC).largest == (), "without a bound"


def test_rewards_are_scaled_so_that_returns_stay_within_a_bound() -> None:
    """Returns of mean 90 and some spread: the largest over 2 is more than the deviation."""
    state = carried(ROLLOUTS[:3])
    assert state.largest / 2 > state.reward.std
    seen = updated(CARRIED, state, ROLLOUTS[1])[1].steps.reward
    np.testing.assert_allclose(seen, ROLLOUTS[1].steps.reward * 2 / state.largest, rtol=1e-5)
    loose = CARRIED.replace(return_bound=1e6)
    seen = updated(loose, state, ROLLOUTS[1])[1].steps.reward
    np.testing.assert_allclose(seen, ROLLOUTS[1].steps.reward / state.reward.std, rtol=1e-5)


def test_more_or_fewer_environments_than_told() -> None:
    """Those beyond `num_envs` count anew in each rollout; returns of absent ones stay."""
    for B in (3, 6):
        state = CARRIED.init(jax.random.key(0), SPEC)
        whole = returns(joined([make_rollout(0, B=B), make_rollout(1, B=B)]))
        for seed in range(2):
            state = CARRIED.observe(state, make_rollout(seed, B=B))
        np.testing.assert_allclose(state.returns[: min(B, 4)], whole[-1, :4], rtol=1e-5)
        assert state.returns.shape == (4,) and not state.returns[B:].any()


def test_the_dead_are_not_in_the_statistics_and_roles_are_pooled() -> None:
    """Agents 0 and 1 see 100 and 101 in turn, 1 for two of four steps; agent 2 sees 7."""
    alive = np.array([[[1, 1, 1]], [[1, 1, 1]], [[1, 0, 1]], [[1, 0, 1]]], bool)
    view = np.array([[100.0, 101, 7], [101, 100, 7], [100, 0, 7], [101, 0, 7]], np.float32)
    obs = {"view": view[:, None, :, None], "alive": alive, "state": np.ones((4, 1, 2), np.float32)}
    space = {"view": Box((3, 1)), "alive": Box((3,), "bool"), "state": Box((2,))}
    algorithm = Normalized(Spy(), groups=(0, 0, 1))
    state = algorithm.init(jax.random.key(0), EnvSpec("team", space, Discrete(2), num_agents=3))
    flag, paid = np.zeros((4, 1), bool), np.zeros((4, 1, 3), np.float32)
    batch = Rollout(Step(obs, flag, paid, flag, obs, flag, flag, {}), ())
    for _ in range(50):
        state = algorithm.observe(state, batch)
    stats = state.obs["['view']"]
    np.testing.assert_allclose(stats.mean[:, 0], [100.5, 100.5, 7.0], rtol=1e-4)
    np.testing.assert_allclose(stats.std[:2, 0], [0.5, 0.5], rtol=2e-2)
    same = stats(jnp.full((3, 1), 101.0))[:, 0]
    np.testing.assert_allclose(same[0], same[1])
    dead = batch._replace(steps=batch.steps._replace(obs=obs | {"alive": np.zeros_like(alive)}))
    after = algorithm.observe(state, dead).obs["['view']"]
    np.testing.assert_allclose([after.mean, after.std], [stats.mean, stats.std], rtol=1e-5)
