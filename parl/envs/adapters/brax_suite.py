"""Brax's environments as pure JAX environments: `brax:ant`, `brax:halfcheetah?backend=spring`.

Freeman et al. 2021, arXiv:2106.13281. Brax's wrappers for time limits and automatic resets are not
used: an episode is truncated after 1000 steps here, and `jax_vector` resets it.
"""

import urllib.parse
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from brax import envs  # pyright: ignore[reportMissingImports]
from flax import struct

from parl.core.errors import EnvError, nearest
from parl.core.spec import Box, EnvSpec
from parl.core.types import Array

BACKENDS = ("generalized", "spring", "positional", "mjx")  # of physics


class BraxState(struct.PyTreeNode):
    """The state of an episode."""

    brax: Any  # Brax's own state: physics, observation, reward, done, info
    time: Array  # [] int32, steps since the reset


class Brax:
    """One of Brax's environments, such as 'ant', with a time limit; the option is `backend`.

    Raises EnvError for an unknown name or option.
    """

    def __init__(self, name: str, /, max_steps: int = 1000, **options: Any):
        name = "?".join([name, *(f"{option}={value}" for option, value in options.items())])
        self.env, self.max_steps = make(name), max_steps
        obs = jax.eval_shape(self.env.reset, jax.random.key(0)).obs
        self.spec = EnvSpec(
            id=f"brax:{name}",
            observation_space=Box(obs.shape),
            action_space=Box((self.env.action_size,), low=-1.0, high=1.0),
            max_steps=max_steps,
        )

    def reset(self, key: Array) -> tuple[BraxState, Array]:
        state = self.env.reset(key)
        return BraxState(state, jnp.int32(0)), state.obs

    def step(
        self, state: BraxState, action: Array, key: Array
    ) -> tuple[BraxState, Array, Array, Array, Array]:
        new = self.env.step(state.brax, jnp.clip(action, -1, 1))
        time, terminated = state.time + 1, new.done > 0.5
        return BraxState(new, time), new.obs, new.reward, terminated, time >= self.max_steps


def make(name: str) -> Any:
    """Creates Brax's environment."""
    known = envs._envs  # there is no public list of the names
    short, _, options = name.partition("?")
    if short not in known:
        raise EnvError(f"unknown environment 'brax:{name}'.{nearest(short, known)}")
    given = dict(urllib.parse.parse_qsl(options, keep_blank_values=True))
    if given.keys() - {"backend"} or given.get("backend", BACKENDS[0]) not in BACKENDS:
        raise EnvError(
            f"'brax:{name}' has the options {options}; it can have backend="
            f"{', backend='.join(BACKENDS)}."
        )
    with warnings.catch_warnings():  # it warns that Brax is no longer maintained
        warnings.filterwarnings("ignore", message="Brax System")
        return envs.get_environment(short, **given)
