"""What an environment looks like to a network: spaces and example arrays, free of any library."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Box:
    """Real vectors, images or any array. Actions in a Box are always scaled to [-1, 1]."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: Any = field(default=-np.inf, compare=False)  # [*shape] or a scalar
    high: Any = field(default=np.inf, compare=False)  # [*shape] or a scalar

    def __str__(self) -> str:
        return f"Box{self.shape}"


@dataclass(frozen=True)
class Discrete:
    """Integers 0 .. n - 1."""

    n: int
    dtype: str = "int32"
    shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"Discrete({self.n})"


@dataclass(frozen=True)
class MultiDiscrete:
    """Vectors of integers; component i lies in 0 .. nvec[i] - 1."""

    nvec: tuple[int, ...]
    dtype: str = "int32"

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.nvec),)

    def __str__(self) -> str:
        return f"MultiDiscrete({list(self.nvec)})"


Space = Box | Discrete | MultiDiscrete | dict[str, Any]  # a dict maps names to spaces


def example(space: Space, batch_shape: tuple[int, ...] = (1,)) -> Any:
    """Zeros [*batch_shape, *shape] as numpy arrays, a dict of them for a dict space."""
    if isinstance(space, dict):
        return {name: example(part, batch_shape) for name, part in space.items()}
    return np.zeros((*batch_shape, *space.shape), space.dtype)


def flat_size(space: Space) -> int:
    """Numbers that a network sees after flattening; a Discrete(n) counts as one-hot n."""
    if isinstance(space, dict):
        return sum(flat_size(part) for part in space.values())
    if isinstance(space, Discrete):
        return space.n
    if isinstance(space, MultiDiscrete):
        return sum(space.nvec)
    return math.prod(space.shape)


@dataclass(frozen=True)
class EnvSpec:
    """An environment as algorithms and models see it.

    With agents, `action_space` is that of one of them, and `observation_space` a dict whose parts
    carry N in front, `state` excepted: `view` (N, O); `legal` (N, A) bool, for discrete actions;
    `alive` (N,) bool; in turn-based games `turn` (N,) bool, whose move it is; `state` (S,).
    """

    id: str
    observation_space: Space
    action_space: Space
    max_steps: int | None = None  # time limit of an episode in steps, where known
    num_agents: int | None = None  # N, for multi-agent environments
    agents: tuple[str, ...] = ()  # their names
    groups: tuple[int, ...] = ()  # of each agent: those of one have one role; empty: all are one

    @property
    def agent_shape(self) -> tuple[int, ...]:
        """(N,) for a multi-agent environment, else (): what rewards [B, ...] have behind B."""
        return () if self.num_agents is None else (self.num_agents,)

    @property
    def takes_turns(self) -> bool:
        """Whether one agent moves at a time: games whose winner is who is paid most."""
        return isinstance(self.observation_space, dict) and "turn" in self.observation_space

    @property
    def obs(self) -> Any:
        """An example observation with one batch axis: leaves [1, *O]."""
        return example(self.observation_space)

    @property
    def action(self) -> Any:
        """An example action with one batch axis: [1, A] float or [1] int, [1, N, ...] of agents."""
        return example(self.action_space, (1, *self.agent_shape))
