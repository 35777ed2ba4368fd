"""NAVIX, MiniGrid in JAX: `navix:Navix-DoorKey-5x5-v0`. Pignatelli et al. 2024, arXiv:2407.19396.

Its symbolic observations, an entity, a colour and a state for each cell, are planes of truth values
here: which of them holds in which cell.
"""

from typing import Any

import jax
import jax.numpy as jnp
import navix  # pyright: ignore[reportMissingImports]

from parl.core.errors import EnvError, nearest
from parl.core.spec import Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.adapters.pure import number, settled, space_of

SYMBOLS = (11, 6, 4)  # entities, colours, and states or directions


class Navix:
    """An environment by its name in NAVIX; options are those of its class, such as max_steps.

    Raises EnvError for an unknown name.
    """

    def __init__(self, name: str, /, **options: Any):
        known = list(navix.registry())
        if name not in known:
            raise EnvError(f"unknown environment 'navix:{name}'.{nearest(name, known)}")
        self.env = navix.make(name, **options)
        start = jax.eval_shape(self.env.reset, jax.random.key(0))
        self.like = start
        self.symbolic = start.observation.shape[2:] == (3,) and start.observation.dtype == jnp.uint8
        self.spec = EnvSpec(
            id=f"navix:{name}",
            observation_space=space_of(jax.eval_shape(self.observe, start.observation)),
            action_space=Discrete(len(self.env.action_set)),
            max_steps=int(self.env.max_steps),
        )

    def reset(self, key: Array) -> tuple[Any, Any]:
        start = settled(self.env.reset(key), self.like)
        return start, self.observe(start.observation)

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, Any, Array, Array, Array]:
        after = settled(self.env._step(state, action), self.like)  # `step` resets by itself
        reward = after.reward.astype(jnp.float32)
        ends = after.is_termination(), after.is_truncation()
        return after, self.observe(after.observation), reward, *ends

    def observe(self, obs: Array) -> Array:
        """Planes [H, W, C] of a symbolic observation, others as numbers."""
        if not self.symbolic:
            return number(obs)
        planes = [jax.nn.one_hot(obs[..., i], n, dtype=bool) for i, n in enumerate(SYMBOLS)]
        return jnp.concatenate(planes, -1)
