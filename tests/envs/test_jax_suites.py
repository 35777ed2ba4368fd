"""Packages of pure JAX environments, where they are installed: theirs step by step beside ours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.core.errors import EnvError
from parl.core.spec import Box, Discrete, example
from parl.envs import jax_vector
from parl.envs.adapters import pure
from parl.envs.classic.cartpole import CartPole
from parl.envs.factory import make_factory

KEY = jax.random.key(0)
# the package and an environment with a time limit that random play meets soon
NAMES = {
    "gymnax:Breakout-MinAtar?max_steps_in_episode=9": "gymnax",
    "gymnax:DeepSea-bsuite": "gymnax",
    "gymnax:Pendulum-v1?max_steps_in_episode=9": "gymnax",
    "pgx:2048": "pgx",
    "jumanji:Snake-v1?time_limit=5": "jumanji",
    "jumanji:Game2048-v1": "jumanji",
    "navix:Navix-DoorKey-5x5-v0?max_steps=9": "navix",
    "craftax:Craftax-Classic-Symbolic-v1?max_timesteps=9": "craftax",
}
SLOW = ("craftax", "navix", "jumanji")


def env_of(id: str) -> Any:
    pytest.importorskip(id.partition(":")[0])
    return make_factory(id).jax


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: (jnp.shape(x), str(jnp.asarray(x).dtype)), tree)


@pytest.mark.parametrize(
    "id", [pytest.param(n, marks=pytest.mark.slow if NAMES[n] in SLOW else ()) for n in NAMES]
)
def test_an_environment_keeps_the_protocol(id: str) -> None:
    """A loop may carry its state; observations are of its space; an episode ends as it says."""
    env = env_of(id)
    wanted = jax.tree.map(
        lambda x: (x.shape[1:], str(x.dtype)), example(env.spec.observation_space)
    )
    state, obs = jax.jit(env.reset)(KEY)
    assert shapes(obs) == wanted
    step, rng = jax.jit(env.step), np.random.default_rng(0)
    kinds = jax.tree.map(lambda x: x.aval, jax.tree.leaves(state))
    for time in range(200):
        space: Any = env.spec.action_space
        action = rng.uniform(-1, 1, space.shape).astype(np.float32)
        if isinstance(space, Discrete):
            legal = obs.get("legal") if isinstance(obs, dict) else None
            action = np.int32(
                rng.choice(np.flatnonzero(np.ones(space.n) if legal is None else legal))
            )
        state, obs, reward, terminated, truncated = step(state, action, jax.random.key(time))
        assert shapes(obs) == wanted
        assert [x.aval for x in jax.tree.leaves(state)] == kinds
        assert (reward.shape, reward.dtype) == ((), jnp.float32) and np.isfinite(reward)
        if terminated | truncated:
            break
    assert terminated or truncated
    if truncated:
        assert time + 1 == env.spec.max_steps


@pytest.mark.parametrize("id", NAMES)
def test_a_program_steps_it_in_a_loop(id: str) -> None:
    """Two environments that restart, traced only."""
    env = env_of(id)
    action = jax.tree.map(lambda x: jnp.stack([x[0]] * 2), env.spec.action)
    step = lambda vector, _: jax_vector.autostep(env, vector, action)
    start = lambda key: jax_vector.reset(env, key, 2)
    _, steps = jax.eval_shape(lambda key: jax.lax.scan(step, start(key), length=3), KEY)
    wanted = jax.tree.map(lambda x: (3, 2, *x.shape[1:]), example(env.spec.observation_space))
    assert jax.tree.map(jnp.shape, steps.next_obs) == wanted


def test_gymnax_tells_a_time_limit_from_an_end() -> None:
    """Breakout's ball is lost after some steps; before, the limit cuts."""
    ends = []
    for limit in (4, 1000):
        env = env_of(f"gymnax:Breakout-MinAtar?max_steps_in_episode={limit}")
        step, (state, obs) = jax.jit(env.step), jax.jit(env.reset)(KEY)
        assert obs.shape == (10, 10, 4) and obs.dtype == bool
        for _ in range(100):
            state, obs, _, terminated, truncated = step(state, jnp.int32(0), KEY)
            if terminated or truncated:
                break
        ends.append((bool(terminated), bool(truncated)))
    assert ends == [(False, True), (True, False)]


def test_gymnax_cartpole_is_ours() -> None:
    """From the same state both step the same."""
    env, ours = env_of("gymnax:CartPole-v1"), CartPole()
    assert env.spec.observation_space == Box((4,)) and env.spec.max_steps == 500
    assert ours.spec.action_space == env.spec.action_space
    theirs, obs = env.reset(KEY)
    state = ours.reset(KEY)[0].replace(physics=obs)
    step, own_step = jax.jit(env.step), jax.jit(ours.step)
    for time in range(200):
        action = jnp.int32(time % 2)
        theirs, obs, reward, terminated, _ = step(theirs, action, KEY)
        state, own_obs, own_reward, own_terminated, _ = own_step(state, action, KEY)
        np.testing.assert_allclose(obs, own_obs, rtol=1e-4, atol=1e-5)
        assert reward == own_reward and bool(terminated) == bool(own_terminated)
        if terminated:
            break
    assert terminated


def test_pgx_is_a_team_with_legal_moves() -> None:
    """Connect four beside our own: the same moves win, and the loser gets -1."""
    env, own = env_of("pgx:connect_four"), make_factory("jax:connect_four").jax
    assert own is not None
    assert env.spec.takes_turns and env.spec.num_agents == 2
    state, obs = jax.jit(env.reset)(KEY)
    own_state, own_obs = own.reset(KEY)
    step, own_step = jax.jit(env.step), jax.jit(own.step)
    first = int(np.argmax(obs["turn"]))
    for move in (0, 1, 0, 1, 0, 1, 0):
        assert obs["turn"].sum() == 1
        mover = int(np.argmax(obs["turn"]))
        assert (obs["legal"][mover] == own_obs["legal"][mover if first == 0 else 1 - mover]).all()
        assert obs["legal"][1 - mover].tolist() == [True] + [False] * 6
        action = jnp.full(2, move, jnp.int32)
        state, obs, reward, terminated, truncated = step(state, action, KEY)
        own_state, own_obs, own_reward, own_over, _ = own_step(own_state, action, KEY)
        assert bool(terminated) == bool(own_over) and not truncated
    assert terminated and reward[first] == 1 and reward[1 - first] == -1
    np.testing.assert_array_equal(np.sort(reward), np.sort(own_reward))
    assert not obs["turn"].any() and obs["view"].shape == (2, 6 * 7 * 2)


@pytest.mark.parametrize("suite", ["gymnax", "pgx", "jumanji", "navix", "craftax"])
def test_an_unknown_name(suite: str) -> None:
    pytest.importorskip(suite)
    with pytest.raises(EnvError, match=f"unknown environment '{suite}:nothing'"):
        make_factory(f"{suite}:nothing")


def test_states_are_settled_for_a_loop() -> None:
    like = {"time": jax.ShapeDtypeStruct((), jnp.int32), "on": jax.ShapeDtypeStruct((1,), bool)}
    state = pure.settled({"time": 3, "on": True}, like)
    assert shapes(state) == {"time": ((), "int32"), "on": ((1,), "bool")}
    assert not jnp.asarray(state["time"]).weak_type
    assert pure.bounded(-2, [1.0], (1,)).low.tolist() == [-2]
