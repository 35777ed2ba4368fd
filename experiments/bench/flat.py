"""gymnax' Breakout as a vector, which is how PureJaxRL's DQN sees it."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from parl.core.spec import Box
from parl.core.types import Array
from parl.envs.adapters.gymnax_suite import Gymnax


class FlatBreakout(Gymnax):
    """MinAtar's Breakout with observations [400] of 0 and 1."""

    def __init__(self) -> None:
        super().__init__("Breakout-MinAtar")
        self.spec = replace(self.spec, observation_space=Box((400,)))

    def observe(self, obs: Any) -> Array:
        return jnp.asarray(obs, jnp.float32).reshape(-1)
