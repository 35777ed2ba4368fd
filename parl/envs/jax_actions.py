"""Maps network actions to a pure JAX environment's own bounds and axes."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parl.core.actions import number_map
from parl.core.spec import Box, EnvSpec
from parl.core.types import Array
from parl.envs.protocol import JaxEnv


def own_actions(env: JaxEnv) -> tuple[EnvSpec, JaxEnv]:
    """(spec for networks, environment that takes network actions).

    An unbounded Box is treated as [-1, 1]. If the bounds differ or the Box is not a vector, the
    environment is wrapped. Multi-agent environments are unchanged.
    """
    spec, space = env.spec, env.spec.action_space
    if not isinstance(space, Box) or spec.num_agents is not None:
        return spec, env
    bounded = np.isfinite(space.low) | np.isfinite(space.high)
    low, high = np.where(bounded, space.low, -1.0), np.where(bounded, space.high, 1.0)
    network, action_map = number_map(low, high, space.shape, space.dtype)
    if len(space.shape) == 1 and (low == -1).all() and (high == 1).all():
        return dataclasses.replace(spec, action_map=action_map), env
    spec = dataclasses.replace(spec, action_space=network, action_map=action_map)
    return spec, OwnActions(env, spec)


@dataclass(frozen=True)
class OwnActions:
    """An environment that takes network actions: vectors in [-1, 1]."""

    env: JaxEnv
    spec: EnvSpec = field(compare=False)  # follows from the environment

    def reset(self, key: Array) -> tuple[Any, Any]:
        """As that of the environment."""
        return self.env.reset(key)

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, Any, Array, Array, Array]:
        """As that of the environment."""
        assert self.spec.action_map is not None
        return self.env.step(state, self.spec.action_map(action[None])[0], key)
