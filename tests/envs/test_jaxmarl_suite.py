"""JaxMARL's environments: theirs step by step beside ours, where the package is installed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.core.errors import EnvError
from parl.core.spec import example
from parl.envs.factory import make_factory

pytest.importorskip("jaxmarl")
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "name", ["SMAX-2s3z", "MPE_simple_tag_v3", "MPE_simple_speaker_listener_v4"]
)
def test_episodes_are_jaxmarls(name: str) -> None:
    env: Any = make_factory(f"jaxmarl:{name}").jax
    spec, inner = env.spec, env.env
    state, obs = jax.jit(env.reset)(KEY)
    theirs, state_of_theirs = inner.reset(KEY)
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
    assert shapes(obs) == jax.tree.map(
        lambda x: (x.shape[1:], str(x.dtype)), example(spec.observation_space)
    )
    step, rng = jax.jit(env.step), np.random.default_rng(0)
    deaths = 0
    for time in range(spec.max_steps):
        action = jnp.asarray((rng.random(obs["legal"].shape) * obs["legal"]).argmax(-1), jnp.int32)
        key = jax.random.key(time)
        state, obs, reward, terminated, truncated = step(state, action, key)
        chosen = dict(zip(env.agents, action, strict=True))
        theirs, state_of_theirs, paid, dones, _ = inner.step_env(key, state_of_theirs, chosen)
        for i, agent in enumerate(env.agents):
            np.testing.assert_allclose(obs["view"][i, : env.views[i]], theirs[agent], atol=1e-5)
            np.testing.assert_allclose(reward[i], paid[agent], atol=1e-5)
        assert bool(terminated | truncated) == bool(dones["__all__"])
        assert obs["legal"].any(1).all()
        deaths += not obs["alive"].all()
        if dones["__all__"]:
            break
    assert dones["__all__"] and bool(truncated) == (time + 1 >= env.max_steps)
    assert deaths > 0 or "SMAX" not in name


def test_an_unknown_name() -> None:
    with pytest.raises(EnvError, match="unknown environment 'jaxmarl:MPE_simple_tag_v9'"):
        make_factory("jaxmarl:MPE_simple_tag_v9")
