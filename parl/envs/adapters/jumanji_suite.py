"""Jumanji's environments: `jumanji:Snake-v1`, `jumanji:Game2048-v1`.

Bonnet et al. 2024, arXiv:2306.09884. The parts of an observation are a dict by their names, numbers
as float32; `action_mask` is the mask. Several choices with one mask over all their combinations
are one choice among these.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import jumanji  # pyright: ignore[reportMissingImports]
from jumanji import specs  # pyright: ignore[reportMissingImports]

from parl.core.errors import EnvError, SpaceError, nearest
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete
from parl.core.types import Array
from parl.envs.adapters.pure import bounded, named, number, settled, space_of

MASK = "action_mask"


class Jumanji:
    """An environment by its name in Jumanji; options are those of its class.

    Raises EnvError for an unknown name or option, SpaceError for several agents or actions that are
    not served.
    """

    def __init__(self, name: str, /, **options: Any):
        self.env = make(name, options)
        self.like, first = jax.eval_shape(self.env.reset, jax.random.key(0))
        if first.reward.shape != ():
            raise SpaceError(f"jumanji:{name} pays several agents, which is not served.")
        seen = named(first.observation)
        mask = seen.get(MASK) if isinstance(seen, dict) else None
        self.choices, actions = action_space(name, self.env.action_spec, mask)
        self.masked = mask is not None and not isinstance(actions, Box)
        self.spec = EnvSpec(
            id=f"jumanji:{name}",
            observation_space=space_of(jax.eval_shape(self.observe, first.observation)),
            action_space=actions,
            max_steps=getattr(self.env, "time_limit", None),
        )

    def reset(self, key: Array) -> tuple[Any, Any]:
        state, first = self.env.reset(key)
        return settled(state, self.like), self.observe(first.observation)

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, Any, Array, Array, Array]:
        if self.choices:
            action = jnp.stack(jnp.unravel_index(action, self.choices)).astype(jnp.int32)
        new, after = self.env.step(state, action)
        reward, last = jnp.asarray(after.reward, jnp.float32), after.last()
        terminated = last & (after.discount == 0)
        observed = self.observe(after.observation)
        return settled(new, self.like), observed, reward, terminated, last & ~terminated

    def observe(self, obs: Any) -> Any:
        """The parts by name, and the mask as `legal` [A]."""
        parts = named(obs)
        if not isinstance(parts, dict):
            return number(parts)
        legal = {"legal": parts.pop(MASK).reshape(-1)} if self.masked else {}
        return jax.tree.map(number, parts) | legal


def make(name: str, options: dict[str, Any]) -> Any:
    """Jumanji's environment of a name."""
    known = jumanji.registered_environments()
    if name not in known:
        raise EnvError(f"unknown environment 'jumanji:{name}'.{nearest(name, known)}")
    return jumanji.make(name, **options)


def action_space(name: str, spec: Any, mask: Any) -> tuple[tuple[int, ...], Any]:
    """(counts of choices to be joined to one, PARL's space of actions)."""
    if isinstance(spec, specs.DiscreteArray):
        return (), Discrete(int(spec.num_values))
    if isinstance(spec, specs.MultiDiscreteArray):
        counts = tuple(int(n) for n in spec.num_values.reshape(-1))
        if mask is not None and mask.size == math.prod(counts):
            return counts, Discrete(math.prod(counts))
        return (), MultiDiscrete(counts)
    if isinstance(spec, specs.BoundedArray):
        box: Box = bounded(spec.minimum, spec.maximum, tuple(spec.shape))
        return (), box
    raise SpaceError(f"jumanji:{name} has {type(spec).__name__} actions, which are not served.")
