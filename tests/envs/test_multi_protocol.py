"""What all pure JAX environments with several agents have to keep to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dying import Dying
from marks import quick

from parl.core.spec import Discrete, example
from parl.envs.builtin import JAX_ENVS
from parl.envs.factory import make_factory
from parl.envs.jax_vector import JaxVectorEnv
from parl.envs.protocol import JaxEnv

KEY = jax.random.key(0)
NAMES = [name for name, make in JAX_ENVS.items() if make().spec.num_agents]
ENVS: dict[str, Any] = {name: JAX_ENVS[name]() for name in NAMES} | {"dying": Dying()}
names = pytest.mark.parametrize("name", ENVS)


def test_the_shipped_environments_are_these() -> None:
    assert {name.split("-")[0].removesuffix("_continuous") for name in NAMES} == {
        *("simple_spread", "simple_speaker_listener", "simple_tag", "foraging"),
        *("two_step", "climbing", "penalty", "tic_tac_toe", "connect_four"),
        *("kuhn_poker", "leduc_poker"),
    }


@names
def test_arrays_are_as_the_spec_says(name: str) -> None:
    env, count = ENVS[name], 4
    spec, N = env.spec, env.spec.num_agents
    assert isinstance(env, JaxEnv) and spec.id.partition(":")[2] == name
    assert len(spec.agents) == N == len(spec.groups) and spec.groups[0] == 0

    def run(keys: jax.Array, action: jax.Array) -> Any:
        state, obs = jax.vmap(env.reset)(keys)
        return (state, obs), jax.vmap(env.step)(state, action, keys)

    actions = jnp.asarray(np.repeat(spec.action, count, 0))
    before, after = jax.eval_shape(run, jax.random.split(KEY, count), actions)
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
    assert shapes(before) == shapes(after[:2]), "a scan can carry the state"
    assert shapes(after[1]) == shapes(example(spec.observation_space, (count,)))
    assert shapes(after[2:]) == (((count, N), "float32"), ((count,), "bool"), ((count,), "bool"))


@pytest.mark.parametrize(
    "name",
    quick(
        ENVS,
        "simple_tag",
        "two_step",
        "tic_tac_toe",
        "leduc_poker",
        "simple_spread_continuous",
        "dying",
    ),
)
def test_random_legal_play(name: str) -> None:
    """Episodes end in time, masks always leave a choice, only who moves has more than action 0."""
    env = ENVS[name]
    spec, N, count = env.spec, env.spec.num_agents, 16
    vector = JaxVectorEnv(env, count, seed=1)
    obs, rng, ends = vector.reset(), np.random.default_rng(1), 0
    for _ in range(2 * spec.max_steps):
        active = obs["alive"] & obs.get("turn", True)
        if isinstance(spec.action_space, Discrete):
            legal = obs["legal"]
            assert legal.any(-1).all()
            assert legal[~active, 0].all() and not legal[~active, 1:].any()
            action = (rng.random(legal.shape) * legal).argmax(-1)
        else:
            action = rng.uniform(-1, 1, (count, N, *spec.action_space.shape))
        if "turn" in obs:
            assert (active.sum(1) == 1).all()
        new = vector.step(action)
        assert not new.reward[~active].any() or "turn" in obs
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((new.obs, new.reward)))
        obs, over = new.obs, new.terminated | new.truncated
        assert obs["alive"].any(1).all() and not (new.terminated & new.truncated).any()
        ends += over.sum()
    assert ends >= 2 * count


def test_rewards_and_states_of_a_vector_have_the_agents_axis() -> None:
    vector = make_factory("jax:simple_spread").vector(2, 0)
    vector.reset()
    first = vector.step(np.zeros((2, 3), np.int32))
    assert first.reward.shape == (2, 3) and first.terminated.shape == (2,)
    saved = vector.get_state()
    after = [vector.step(np.ones((2, 3), np.int32)).reward]
    vector.set_state(saved)
    np.testing.assert_array_equal(vector.step(np.ones((2, 3), np.int32)).reward, after[0])
