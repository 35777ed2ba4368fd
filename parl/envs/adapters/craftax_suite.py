"""Craftax: `craftax:Craftax-Symbolic-v1`, `craftax:Craftax-Classic-Symbolic-v1`.

Matthews et al. 2024, arXiv:2402.16801. It is meant for accelerators; a CPU core steps the classic
one some 800 times a second.
"""

from typing import Any

import jax
import jax.numpy as jnp
from craftax.craftax_env import (  # pyright: ignore[reportMissingImports]
    make_craftax_env_from_name,
)

from parl.core.errors import EnvError, nearest
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.adapters.pure import number, settled

NAMES = (
    "Craftax-Symbolic-v1",
    "Craftax-Pixels-v1",
    "Craftax-Classic-Symbolic-v1",
    "Craftax-Classic-Pixels-v1",
)


class Craftax:
    """One of Craftax' four environments; options are its parameters, such as max_timesteps.

    Raises EnvError for an unknown name or option.
    """

    def __init__(self, name: str, /, **options: Any):
        if name not in NAMES:
            raise EnvError(f"unknown environment 'craftax:{name}'.{nearest(name, NAMES)}")
        self.env = make_craftax_env_from_name(name, auto_reset=False)
        try:
            self.params = self.env.default_params.replace(**options)
        except TypeError as error:
            raise EnvError(f"craftax:{name}: {error}.") from error
        start = jax.eval_shape(lambda key: self.env.reset(key, self.params), jax.random.key(0))
        seen, self.like = start
        pixels: dict[str, Any] = {"low": 0.0, "high": 1.0} if "Pixels" in name else {}
        self.spec = EnvSpec(
            id=f"craftax:{name}",
            observation_space=Box(tuple(seen.shape), **pixels),
            action_space=Discrete(int(self.env.action_space(self.params).n)),
            max_steps=int(self.params.max_timesteps),
        )

    def reset(self, key: Array) -> tuple[Any, Any]:
        obs, state = self.env.reset(key, self.params)
        return settled(state, self.like), number(obs)

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, Any, Array, Array, Array]:
        obs, new, reward, done, _ = self.env.step(key, state, action, self.params)
        late = jnp.asarray(new.timestep >= self.params.max_timesteps, bool)
        done, reward = jnp.asarray(done, bool), jnp.asarray(reward, jnp.float32)
        return settled(new, self.like), number(obs), reward, done & ~late, done & late
