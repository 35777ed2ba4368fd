"""Actor-critics with memory, against their equations over sequences; SAC and TD3 are unchanged."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from parl.algorithms.shared import windows
from parl.algorithms.wrappers.remembering import Memories, Remembering, as_steps
from parl.core.spec import Box, EnvSpec
from parl.core.types import Rollout, Step, Window
from parl.models.histories import AtStep, InWindow
from parl.recipes import make_recipe

SPEC = EnvSpec("test", Box((3,)), Box((2,), low=-1.0, high=1.0), max_steps=100)
KEY = jax.random.key(0)
B, BURN_IN, T = 4, 2, 3


def algorithm(name: str, **settings: Any) -> Remembering:
    changes = {"recurrent": "gru", "memory_size": 5, "hidden": (6,), "warmup": 0}
    recipe = make_recipe(name, SPEC).override(changes | settings)
    made = recipe.learner(SPEC, 1_000, 1).algorithm
    assert isinstance(made, Remembering)
    return made


def played(rule: Remembering, state: Any) -> Rollout:
    """Steps of B environments, as acting records them; some episodes end."""
    rng, time = np.random.default_rng(3), BURN_IN + T
    obs = rng.normal(size=(time + 1, B, 3)).astype(np.float32)
    last = rng.random((time, B)) < 0.2
    first = np.concatenate([np.zeros((1, B), bool), last[:-1]])
    assert last[:-1].any() and not last.all(1).any()
    act = jax.jit(lambda *x: rule.act(*x, explore=True))
    policy, rows, start = rule.policy(state), [], jax.device_get(rule.memory((B,)))
    memory = jax.tree.map(lambda x: x + np.float32(0.3), start)
    for t in range(time):
        reset = lambda new, old, t=t: np.where(first[t][:, None], new, old)
        memory = jax.tree.map(reset, start, memory)
        action, memory, extras = jax.device_get(act(policy, obs[t], memory, jax.random.key(t)))
        one = np.ones(B, np.float32)
        rows.append(Step(obs[t], action, one * t, one, obs[t + 1], first[t], last[t], extras))
    return Rollout(jax.tree.map(lambda *x: np.stack(x), *rows), ())


def window_of(rollout: Rollout) -> Window:
    """The whole rollout as windows [B, ...] that begin with their burn-in."""
    steps, memory = rollout.steps, rollout.steps.extras["memory"]
    part = lambda where: jax.tree.map(lambda x: x[where].swapaxes(0, 1), steps._replace(extras={}))
    there, start = jnp.ones((B, T), bool), jax.tree.map(lambda x: x[0], memory)
    return Window(part(slice(BURN_IN)), part(slice(BURN_IN, None)), start, there, {})


@pytest.fixture(scope="module")
def sac() -> tuple[Remembering, Any, Rollout]:
    rule = algorithm("sac")
    state = jax.jit(rule.init, static_argnums=1)(KEY, SPEC)
    return rule, state, played(rule, state)


def test_networks_see_a_window_as_acting_saw_it(sac: Any) -> None:
    """Policies and values of the steps and of what follows, from the memory of each."""
    rule, state, rollout = sac
    batch = as_steps(windows.in_time(window_of(rollout)))
    inner: Any = rule.inner
    actor = compiled(inner.actor.apply)
    pi, after = (actor(state.actor.params, obs) for obs in (batch.obs, batch.next_obs))
    memories, step = rollout.steps.extras["memory"], compiled(inner.actor.step)
    for t in range(T):
        at = BURN_IN + t
        memory = jax.tree.map(lambda x, at=at: x[at], memories)
        seen = AtStep(rollout.steps.obs[at], memory)
        own, next_memory = step(state.actor.params, seen)
        rows = slice(t * B, (t + 1) * B)
        np.testing.assert_allclose(pi.mean[rows], own.mean, rtol=1e-4, atol=1e-5)
        seen = AtStep(rollout.steps.next_obs[at], memory | {"actor": next_memory})
        expected = step(state.actor.params, seen)[0]
        np.testing.assert_allclose(after.mean[rows], expected.mean, rtol=1e-4, atol=1e-5)
        if t == 1:
            action = rollout.steps.action[at]
            q = compiled(inner.critic.apply)(state.critic.params, batch.obs, batch.action)
            assert q.shape == (2, T * B)
            seen = AtStep(rollout.steps.obs[at], memory)
            alone = compiled(inner.critic.step)(state.critic.params, seen, action)[0]
            np.testing.assert_allclose(q[:, rows], alone, rtol=1e-4, atol=1e-5)


def test_acting_keeps_a_memory_for_each_network(sac: Any) -> None:
    rule, state, rollout = sac
    memory = rule.memory((B,))
    assert isinstance(memory, Memories) and set(memory.networks) == {"actor", "critic"}
    action, after, extras = rule.act(rule.policy(state), np.ones((B, 3)), memory, KEY, False)
    assert action.shape == (B, 2) and extras == {}
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), after.networks, memory.networks)
    assert all(jax.tree.leaves(moved))
    kept = rollout.steps.extras["memory"]
    assert {name: x.shape for name, x in kept.items()} == dict.fromkeys(kept, (5, B, 5))


@pytest.mark.slow
def test_what_is_not_there_counts_nothing(sac: Any) -> None:
    """Rewards that are not there change no parameter; weights are divided by the share that is."""
    rule, state, rollout = sac
    window = window_of(rollout)
    there = window.there.at[:, 2].set(False)
    update = jax.jit(rule.update)
    results = []
    for reward in (0.0, 100.0):
        steps = window.steps._replace(reward=window.steps.reward.at[:, 2].set(reward))
        results.append(update(state, window._replace(steps=steps, there=there), KEY))
    (one, info), (other, _) = results
    same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), one, other)
    assert all(jax.tree.leaves(same)) and info["td_error"].shape == (B,)
    flat = as_steps(windows.in_time(window._replace(there=there)))
    np.testing.assert_allclose(flat.extras["weight"], np.repeat([1.5, 1.5, 0.0], B))
    assert isinstance(flat.obs, InWindow) and flat.next_obs.after


def test_steps_without_memory_get_a_fresh_one(sac: Any) -> None:
    rule, _, rollout = sac
    bare = rollout._replace(steps=rollout.steps._replace(extras={}))
    items = rule.items(bare)
    assert items.extras["memory"]["critic"].shape == (5 * B, 5)
    assert not np.any(items.extras["memory"]["actor"])


@pytest.mark.parametrize("name", ["sac", "td3", "ddpg"])
def test_memory_is_one_setting_away(name: str) -> None:
    recipe = make_recipe(name, SPEC)
    plain = recipe.learner(SPEC, 1_000, 1).algorithm
    assert not isinstance(plain, Remembering)
    learner: Any = recipe.override({"recurrent": "lru", "window": 12, "burn_in": 4})
    learner = learner.learner(SPEC, 1_000, 1)
    assert isinstance(learner.algorithm, Remembering) and learner.batch_size == 256 // 8
    assert (learner.replay.length, learner.replay.burn_in) == (12, 4)
