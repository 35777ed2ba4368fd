"""Gymnax' environments, also MinAtar's and bsuite's: `gymnax:Breakout-MinAtar`.

Lange 2022, github.com/RobertTLange/gymnax, from version 1.0 on, which tells terminations from time
limits. Its own resets are not used. Its MinAtar has each game's minimal set of actions and no
sticky ones, where its authors' has six and repeats the last one with probability 0.1; it ends after
1,000 steps, Freeway after 2,500; its grids are truth values.
"""

import dataclasses
from typing import Any

import gymnax  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
from gymnax.environments import spaces  # pyright: ignore[reportMissingImports]

from parl.core.errors import EnvError, SpaceError, nearest
from parl.core.spec import Box, Discrete, EnvSpec, Space
from parl.core.types import Array
from parl.envs.adapters.pure import bounded, settled


class Gymnax:
    """An environment by its name in gymnax; options are its parameters or those of its class.

    Raises EnvError for an unknown name or option, SpaceError for actions that are not served.
    """

    def __init__(self, name: str, /, **options: Any):
        self.env, self.params = make(name, options)
        self.grid = name.endswith("-MinAtar")
        seen = self.env.observation_space(self.params)
        start = jax.eval_shape(lambda key: self.env.reset_env(key, self.params), jax.random.key(0))
        self.like = start[1]
        self.spec = EnvSpec(
            id=f"gymnax:{name}",
            observation_space=Box(tuple(seen.shape), "bool") if self.grid else observed(name, seen),
            action_space=action_space(name, self.env.action_space(self.params)),
            max_steps=int(self.params.max_steps_in_episode),
        )

    def reset(self, key: Array) -> tuple[Any, Any]:
        obs, state = self.env.reset_env(key, self.params)
        return settled(state, self.like), self.observe(obs)

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, Any, Array, Array, Array]:
        obs, new, reward, terminated, _ = self.env.step_env(key, state, action, self.params)
        truncated = jnp.asarray(self.env.is_truncated(new, self.params), bool)
        ends = jnp.asarray(terminated, bool).reshape(())
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return settled(new, self.like), self.observe(obs), reward, ends, truncated

    def observe(self, obs: Any) -> Any:
        """The observation in the dtypes of its space."""
        to = lambda x, space: jnp.asarray(x, space.dtype).reshape(space.shape)
        return jax.tree.map(to, obs, self.spec.observation_space)


def make(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """(gymnax' environment, its parameters)."""
    if name not in gymnax.registered_envs:
        hint = nearest(name, gymnax.registered_envs)
        raise EnvError(f"unknown environment 'gymnax:{name}'.{hint}")
    known = {f.name for f in dataclasses.fields(gymnax.make(name)[1])}
    try:
        env, params = gymnax.make(name, **{k: v for k, v in options.items() if k not in known})
    except TypeError as error:
        raise EnvError(f"gymnax:{name}: {error}; its parameters are {sorted(known)}.") from error
    return env, params.replace(**{k: v for k, v in options.items() if k in known})


def observed(name: str, space: Any) -> Space:
    """PARL's space for observations."""
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.Dict):
        return {key: observed(name, part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Box):
        return Box(tuple(space.shape))
    raise SpaceError(
        f"gymnax:{name} has {type(space).__name__} observations, which are not served."
    )


def action_space(name: str, space: Any) -> Discrete | Box:
    """PARL's space for actions."""
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.Box):
        return bounded(space.low, space.high, tuple(space.shape))
    raise SpaceError(f"gymnax:{name} has {type(space).__name__} actions, which are not served.")
