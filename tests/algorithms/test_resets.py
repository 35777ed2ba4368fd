"""Periodic resets: everything learned starts anew, at the right update."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from critical import BATCH, KEY, SPEC

from parl.algorithms.wrappers.resets import Resetting
from parl.core.algorithm import Algorithm
from parl.core.types import Rollout


class Counting(Algorithm):
    """Its state: a random number from `init`, and updates since then."""

    def init(self, key: Any, spec: Any) -> Any:
        assert spec is SPEC
        return {"weight": jax.random.normal(key), "updates": jnp.zeros((), jnp.int32)}

    def policy(self, state: Any) -> Any:
        return state["weight"]

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        return policy * obs, memory + 1, {"explored": explore}

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        return jnp.full(batch_shape, 7)

    def observe(self, state: Any, rollout: Any) -> Any:
        return state | {"weight": state["weight"] + 100}

    def update(self, state: Any, batch: Any, key: Any) -> Any:
        return state | {"updates": state["updates"] + 1}, {"loss": batch.reward.sum()}


RULE = Resetting(Counting(), SPEC, period=3)


def test_a_fresh_state_every_third_update() -> None:
    state, update, seen = RULE.init(KEY, SPEC), jax.jit(RULE.update), []
    for i in range(7):
        state, metrics = update(state, BATCH, jax.random.key(i))
        seen.append((int(state.inner["updates"]), float(state.inner["weight"])))
        assert metrics["loss"] == 0
    assert [updates for updates, _ in seen] == [1, 2, 0, 1, 2, 0, 1]
    weights = [weight for _, weight in seen]
    assert (
        len(set(weights)) == 3 and weights[0] == weights[1] == RULE.init(KEY, SPEC).inner["weight"]
    )
    assert weights[2] == weights[4] != weights[5] and state.updates == 7


def test_seeds_reset_together_each_to_its_own() -> None:
    keys = jax.random.split(KEY, 2)
    states = jax.vmap(lambda k: RULE.init(k, SPEC))(keys)
    for i in range(3):
        step = jax.random.split(jax.random.key(i), 2)
        states, _ = jax.vmap(lambda s, k: RULE.update(s, BATCH, k))(states, step)
    np.testing.assert_array_equal(states.inner["updates"], [0, 0])
    assert states.inner["weight"][0] != states.inner["weight"][1]


def test_everything_else_is_the_inner_algorithms() -> None:
    state = RULE.init(KEY, SPEC)
    action, memory, extras = RULE.act(RULE.policy(state), 2.0, RULE.memory((3,)), KEY, True)
    assert action == 2 * state.inner["weight"] and extras["explored"]
    np.testing.assert_array_equal(memory, [8, 8, 8])
    assert RULE.observe(state, None).inner["weight"] == state.inner["weight"] + 100  # type: ignore
    steps = jax.tree.map(lambda x: np.asarray(x)[None], BATCH)
    assert RULE.items(Rollout(steps, ())).reward.shape == (2,)
    assert not RULE.episodic and not RULE.tolerates_lag
