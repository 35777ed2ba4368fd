"""Autoreset, time limits, determinism and checkpoints of vectors of JAX environments."""

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from jax import lax

from parl.core.errors import CheckpointError, EnvError
from parl.core.spec import Box, Discrete, EnvSpec
from parl.envs import jax_vector
from parl.envs.classic.cartpole import CartPole
from parl.envs.jax_vector import JaxVectorEnv, VectorState, autostep, reset
from parl.envs.protocol import EnvState, Transition


class CountState(struct.PyTreeNode):
    """Steps so far, where the episode terminates, and a key drawn at the reset."""

    count: jax.Array  # [] int32
    end: jax.Array  # [] int32
    key: jax.Array  # [] typed PRNG key


@dataclass(frozen=True)
class Count:
    """Counts up to a random end (terminated) or to 4 (truncated); dict observations."""

    spec = EnvSpec(
        id="jax:Count",
        observation_space={"count": Box(()), "noise": Box((2, 1))},
        action_space=Discrete(3),
        max_steps=4,
    )

    def reset(self, key: jax.Array) -> tuple[CountState, Any]:
        k_end, k_state = jax.random.split(key)
        state = CountState(jnp.int32(0), jax.random.randint(k_end, (), 2, 7), k_state)
        return state, self.observe(state, k_state)

    def step(self, state: CountState, action: jax.Array, key: jax.Array) -> Any:
        state = state.replace(count=state.count + 1)
        obs = self.observe(state, key)
        reward = action.astype(jnp.float32)
        return state, obs, reward, state.count >= state.end, state.count >= 4

    def observe(self, state: CountState, key: jax.Array) -> Any:
        return {"count": state.count.astype(jnp.float32), "noise": jax.random.uniform(key, (2, 1))}


B, T = 4, 600
ACTIONS = np.random.default_rng(0).integers(0, 2, (T, B)).astype(np.int32)


def fused(env: Any, seed: int) -> tuple[VectorState, Any, Transition]:
    """One compiled scan over ACTIONS: (last state, first obs, transitions [T, B, ...])."""

    def run(key: jax.Array) -> tuple[VectorState, Any, Transition]:
        start = reset(env, key, B)
        end, transitions = lax.scan(partial(autostep, env), start, jnp.asarray(ACTIONS))
        return end, start.obs, transitions

    return jax.jit(run)(jax.random.key(seed))


def assert_equal(ours: Any, theirs: Any) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.fixture(scope="module")
def cartpole() -> JaxVectorEnv:
    """Compiled once; each test resets it or sets its state."""
    return JaxVectorEnv(CartPole(), num_envs=B, seed=3)


@pytest.fixture(scope="module")
def count() -> JaxVectorEnv:
    return JaxVectorEnv(Count(), num_envs=B, seed=3)


@pytest.fixture(scope="module")
def cartpole_run() -> tuple[VectorState, Any, Transition]:
    return jax.device_get(fused(CartPole(), seed=3)[1:])


@pytest.fixture(scope="module")
def count_run() -> tuple[VectorState, Any, Transition]:
    return jax.device_get(fused(Count(), seed=3)[1:])


@pytest.mark.parametrize("name", ["cartpole", "count"])
def test_host_equals_the_fused_scan_bit_for_bit(name: str, request: Any) -> None:
    first_obs, scanned = request.getfixturevalue(f"{name}_run")
    env = {"cartpole": CartPole(), "count": Count()}[name]
    host = JaxVectorEnv(env, num_envs=B, seed=3)
    assert_equal(host.reset(), first_obs)
    steps = [host.step(action) for action in ACTIONS]
    assert_equal(jax.tree.map(lambda *x: np.stack(x), *steps), scanned)
    assert scanned.terminated.sum() > 50


def test_cartpole_autoreset(cartpole_run: Any) -> None:
    _, t = cartpole_run
    ended = t.terminated | t.truncated
    theta_limit = 12 * 2 * np.pi / 360
    fallen = (np.abs(t.next_obs[..., 0]) > 2.4) | (np.abs(t.next_obs[..., 2]) > theta_limit)
    np.testing.assert_array_equal(fallen, t.terminated)  # next_obs is the true final observation
    assert (np.abs(t.obs[ended]) <= 0.05).all()  # obs is a fresh one
    np.testing.assert_array_equal(t.obs[~ended], t.next_obs[~ended])
    fresh = t.obs[ended]
    assert len(np.unique(fresh, axis=0)) == len(fresh), "no two resets are alike"


def test_termination_is_not_truncation(count_run: Any) -> None:
    first_obs, t = count_run
    ended = t.terminated | t.truncated
    counts = t.next_obs["count"]
    np.testing.assert_array_equal(t.truncated, counts == 4)
    assert (counts[t.terminated & ~t.truncated] < 4).all()
    for only in (
        t.terminated & ~t.truncated,
        t.truncated & ~t.terminated,
        t.terminated & t.truncated,
    ):
        assert only.any()
    np.testing.assert_array_equal(t.obs["count"], np.where(ended, 0, counts))
    acted_on = np.concatenate([first_obs["count"][None], t.obs["count"][:-1]])
    np.testing.assert_array_equal(counts, acted_on + 1)
    np.testing.assert_array_equal(t.reward, ACTIONS)
    noise = np.concatenate([t.next_obs["noise"].ravel(), t.obs["noise"][ended].ravel()])
    assert len(np.unique(noise)) > 0.999 * noise.size, "every step and reset has its own key"


def test_time_limit_in_a_vector() -> None:
    env = JaxVectorEnv(CartPole(max_steps=5), num_envs=2, seed=0)
    env.reset()
    ends = [env.step(np.array([i % 2, i % 2])) for i in range(10)]
    assert [t.truncated.tolist() for t in ends] == ([[False] * 2] * 4 + [[True] * 2]) * 2
    assert not any(t.terminated.any() for t in ends)
    assert (ends[4].next_obs != ends[4].obs).all()


def test_same_seed_same_numbers_other_seed_other_numbers(cartpole: JaxVectorEnv) -> None:
    first = [JaxVectorEnv(CartPole(), B, seed).reset() for seed in (3, 3, 4)]
    np.testing.assert_array_equal(first[0], first[1])
    assert (first[0] != first[2]).all()
    np.testing.assert_array_equal(np.unique(first[0]).size, first[0].size)


def test_second_reset_starts_other_episodes(cartpole: JaxVectorEnv) -> None:
    starts = [cartpole.reset(), cartpole.reset()]
    cartpole.step(ACTIONS[0])
    starts.append(cartpole.reset())
    assert np.unique(starts).size == np.size(starts)


@pytest.mark.parametrize("name", ["cartpole", "count"])
def test_state_continues_bit_for_bit(name: str, request: Any) -> None:
    env: JaxVectorEnv = request.getfixturevalue(name)
    env.reset()
    for action in ACTIONS[:20]:
        obs = env.step(action).obs
    saved = env.get_state()
    assert saved.exact and json.loads(json.dumps(saved.meta)) == saved.meta
    assert all(type(x) is np.ndarray and x.dtype != object for x in saved.arrays.values())
    expected = [env.step(action) for action in ACTIONS[20:80]]
    fresh = JaxVectorEnv({"cartpole": CartPole(), "count": Count()}[name], B, seed=99)
    for restored in (env, fresh):
        assert_equal(restored.set_state(saved), obs)
        assert_equal([restored.step(action) for action in ACTIONS[20:80]], expected)
    assert_equal(fresh.reset(), env.reset())


def test_state_names(count: JaxVectorEnv) -> None:
    count.reset()
    assert set(count.get_state().arrays) == {
        *("env/count", "env/end", "env/key", "obs/count", "obs/noise", "key", "time")
    }


def test_set_state_refuses_what_does_not_fit(cartpole: JaxVectorEnv) -> None:
    cartpole.reset()
    saved = cartpole.get_state()

    def with_arrays(**arrays: Any) -> EnvState:
        return saved._replace(arrays={**saved.arrays, **arrays})

    missing = saved._replace(arrays={k: v for k, v in saved.arrays.items() if k != "obs"})
    for state, message in [
        (missing, "lacks array 'obs'"),
        (with_arrays(other=np.zeros(1)), "has the unknown array 'other'"),
        (with_arrays(obs=np.zeros((B + 1, 4), np.float32)), r"'obs' as float32\[5, 4\], but"),
        (with_arrays(time=np.float32(0)), r"'time' as float32\[\], but this run has int32\[\]"),
        (saved._replace(meta={"env": "jax:Other"}), "is jax:Other, not jax:CartPole-v1"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            cartpole.set_state(state)
    np.testing.assert_array_equal(cartpole.get_state().arrays["obs"], saved.arrays["obs"])


def test_step_and_get_state_need_a_reset() -> None:
    env = JaxVectorEnv(CartPole(), num_envs=B, seed=0)
    for call in (lambda: env.step(ACTIONS[0]), env.get_state):
        with pytest.raises(EnvError, match="reset"):
            call()


def test_actions_of_another_batch_size_are_refused(cartpole: JaxVectorEnv) -> None:
    cartpole.reset()
    for action in (np.zeros(B + 1, int), 0):
        with pytest.raises(EnvError, match="first axis of 4"):
            cartpole.step(action)


def test_used_in_a_plain_loop(cartpole: JaxVectorEnv) -> None:
    obs = cartpole.reset()
    assert cartpole.num_envs == len(obs) == B and cartpole.spec.id == "jax:CartPole-v1"
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(5):
        transition = cartpole.step([int(x[2] > 0) for x in obs])
        obs = transition.obs
        assert all(type(x) is np.ndarray for x in jax.tree.leaves(transition))
        kept.append((transition.next_obs, transition.next_obs.copy()))
    for returned, copy in kept:
        np.testing.assert_array_equal(returned, copy)
    obs += 1  # the caller owns it
    assert (cartpole.get_state().arrays["obs"] != obs).all()
    cartpole.close()


def test_steps_without_an_end_draw_no_random_numbers() -> None:
    """Keys and resets are computed only inside the branch of ended episodes."""
    state = jax.eval_shape(partial(reset, CartPole(), num_envs=B), jax.random.key(0))
    step = jax.jit(partial(autostep, CartPole()))
    text = step.lower(state, jnp.zeros(B, jnp.int32)).compile().as_text() or ""
    entry = re.search(r"^ENTRY .*?^}", text, re.DOTALL | re.MULTILINE)
    assert entry is not None
    operations = re.findall(r" ([a-z][\w-]*)\(", entry[0])
    assert operations.count("conditional") == 1 and "while" not in operations
    assert len(operations) < 40


def test_vmapped_seeds_reset_only_when_an_episode_ends() -> None:
    """With an axis of seeds in front the resets stay in a branch, and the numbers stay the same."""
    start = jax.vmap(partial(reset, Count(), num_envs=2))
    step = jax.vmap(partial(autostep, Count()))
    keys = jax.random.split(jax.random.key(5), 4)
    seeds, one = start(keys), start(keys[1:2])
    action = jnp.zeros((4, 2), jnp.int32)
    program = jax.make_jaxpr(step)(seeds, action)
    assert [str(line.primitive) for line in program.eqns].count("cond") == 1
    step = jax.jit(step)
    for _ in range(7):
        seeds, together = step(seeds, action)
        one, alone = step(one, action[:1])
        for some, every in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_array_equal(some[0], every[1])


class Door:
    """Pays how far an action lies from 0, and answers the action as its observation."""

    spec = EnvSpec("door", Box((1,)), Box((1,)), max_steps=3)

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), jnp.zeros(1)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        return state + 1, action, jnp.abs(action[0]), jnp.bool_(False), state + 1 >= 3


def test_box_actions_are_kept_in_their_bounds_at_the_door() -> None:
    """A Gaussian samples beyond them; NaN is not hidden."""
    action = np.array([[-3.0], [0.5], [1.5], [np.nan]], np.float32)
    env = JaxVectorEnv(Door(), 4, seed=0)
    env.reset()
    new = env.step(action)
    np.testing.assert_array_equal(new.reward, [1, 0.5, 1, np.nan])
    np.testing.assert_array_equal(new.next_obs[:, 0], [-1, 0.5, 1, np.nan])
    state = jax.vmap(Door().reset)(jax.random.split(jax.random.key(0), 4))[0]
    keys = jax.random.split(jax.random.key(0), 4)
    _, obs, *_ = jax_vector.step(Door(), state, jnp.asarray(action), keys)
    np.testing.assert_array_equal(obs, new.next_obs)
