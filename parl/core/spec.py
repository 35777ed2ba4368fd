"""An environment as a network sees it: spaces and example arrays, independent of any library."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from parl.core.errors import SpaceError

if TYPE_CHECKING:
    from parl.core.actions import ActionMap
    from parl.core.goals import Goals
    from parl.core.simulator import Simulator


@dataclass(frozen=True)
class Box:
    """Real vectors, images or any array. Networks output Box actions scaled to [-1, 1]."""

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


def in_words(space: Any) -> str:
    """A short text for a space."""
    if isinstance(space, dict):
        return "{" + ", ".join(f"{name}: {in_words(part)}" for name, part in space.items()) + "}"
    return str(space)


def parts_of(space: Any, name: str = "") -> dict[str, Any]:
    """The spaces within a space by their names, such as goal/x; one that is no dict has none."""
    if not isinstance(space, dict) or not space:
        return {name: space}
    inner = lambda key: f"{name}/{key}" if name else str(key)
    return {k: v for key, part in space.items() for k, v in parts_of(part, inner(key)).items()}


def flat_size(space: Space) -> int:
    """The size of a space after flattening; a Discrete(n) counts as one-hot n."""
    if isinstance(space, dict):
        return sum(flat_size(part) for part in space.values())
    if isinstance(space, Discrete):
        return space.n
    if isinstance(space, MultiDiscrete):
        return sum(space.nvec)
    return math.prod(space.shape)


def image_axes(space: Any) -> tuple[int, ...] | None:
    """The axes (height, width, *channels) of a space that holds images, else None.

    Images are bytes in 0 .. 255, numbers in 0 .. 1 or truth values. The two largest neighbouring
    axes are height and width, so channels may come last, first or be stacked: [H, W, C], [C, H, W],
    [F, H, W, C] or [F, H, W, 1]; for bytes also [H, W]. Arrays with a side below 8 pixels are
    images only as bytes [H, W, C], or as truth values [H, W, C] from 5 pixels on.
    """
    if not isinstance(space, Box) or not 2 <= len(space.shape) <= 4:
        return None
    truths = space.dtype == "bool"
    if not is_bytes(space) and not truths and not has_bounds(space, (0, 1)):
        return None
    sides = [min(pair) for pair in zip(space.shape, space.shape[1:], strict=False)]
    first = sides.index(max(sides))
    least = {2: 16, 3: 0 if is_bytes(space) else 5 if truths else 8, 4: 8}[len(space.shape)]
    if sides[first] < least or (len(space.shape) == 2 and not is_bytes(space)):
        return None
    rest = (axis for axis in range(len(space.shape)) if axis not in (first, first + 1))
    return first, first + 1, *rest


def is_grid(space: Any) -> bool:
    """Whether a space holds images of truth values, such as which things stand on which cell."""
    return image_axes(space) is not None and space.dtype == "bool"


def is_bytes(space: Box) -> bool:
    """Whether a box holds bytes in 0 .. 255, which networks see divided by 255."""
    return space.dtype == "uint8" and has_bounds(space, (-np.inf, np.inf), (0, 255))


def has_bounds(space: Box, *bounds: tuple[float, float]) -> bool:
    """Whether all components of a box share the same bounds and these are among `bounds`."""
    return np.ndim(space.low) == np.ndim(space.high) == 0 and (space.low, space.high) in bounds


def mask_space(action_space: Space) -> Box:
    """The space of a mask [A] bool: one entry for each choice, MultiDiscrete concatenated."""
    return Box((flat_size(action_space),), "bool")


@dataclass(frozen=True)
class EnvSpec:
    """An environment as algorithms and models see it.

    The entry `legal` of a dict observation is the mask of Discrete or MultiDiscrete actions,
    whatever dtype it was declared with. With Box actions it is an ordinary observation, and so are
    `alive` and `turn` of a single agent.

    With several agents, `action_space` is that of one agent and `observation_space` is a dict whose
    parts have a leading axis N, except `state`: `view` (N, O); `legal` (N, A) bool, for discrete
    actions; `alive` (N,) bool; in turn-based games `turn` (N,) bool, the agents to move; `state`
    (S,); `sim` (bytes,), a game's state for a search, which no network sees. In the observation
    after a step, an agent that died is not alive. An agent whose episode alone was cut is still
    alive there, with its last view. See parl/ops/agents.py.
    """

    id: str
    observation_space: Space
    action_space: Space
    max_steps: int | None = None  # time limit of an episode in steps, where known
    num_agents: int | None = None  # N, for multi-agent environments
    agents: tuple[str, ...] = ()  # their names
    groups: tuple[int, ...] = ()  # group of each agent; a group shares one role; empty: one group
    action_sizes: tuple[int, ...] = ()  # size of each agent's Box action if they differ
    # The environment's own actions and observations, if they differ from the spaces above:
    action_map: "ActionMap | None" = field(default=None, compare=False, repr=False)
    native: dict[str, Any] | None = field(default=None, compare=False, repr=False)  # as JSON
    # The rules of a game, where a search can play ahead with them; not a part of the JSON:
    simulator: "Simulator | None" = field(default=None, compare=False, repr=False)
    # How it judges goals, where that is known, see parl/core/goals.py:
    goals: "Goals | None" = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        space = self.observation_space
        for name, part in parts_of(space).items():
            if not part or 0 in getattr(part, "shape", ()):
                which = f"the observation {name!r}" if name else "the observation"
                raise SpaceError(
                    f"{which} of {self.id} is {part or 'empty'}, which holds no numbers: leave it "
                    "out, or show a constant in its place."
                )
        if self.num_agents is not None or not isinstance(space, dict):
            return
        own = {name: space[name] for name in ("legal", "alive") if name in space}
        # Boolean observations with these names would be taken for masks of actions and agents.
        own = {
            name: Box(part.shape) if isinstance(part, Box) and part.dtype == "bool" else part
            for name, part in own.items()
        }
        if "legal" in own and not isinstance(self.action_space, Box):
            own["legal"] = self.own_mask(space["legal"])
        object.__setattr__(self, "observation_space", space | own)

    def own_mask(self, declared: Any) -> Box:
        """The space of the mask. Raises SpaceError if it was declared with another size."""
        mask = mask_space(self.action_space)
        size = None if isinstance(declared, dict) else math.prod(declared.shape)
        if size != mask.shape[0]:
            raise SpaceError(
                f"the observation 'legal' of {self.id} is {declared}; as the mask of "
                f"{self.action_space} it needs {mask.shape[0]} numbers, and anything else needs "
                "another name."
            )
        return mask

    @property
    def has_mask(self) -> bool:
        """Whether observations say which actions are legal."""
        space = self.observation_space
        discrete = not isinstance(self.action_space, Box)
        return discrete and isinstance(space, dict) and "legal" in space

    @property
    def agent_shape(self) -> tuple[int, ...]:
        """(N,) for a multi-agent environment, else (): the axes of rewards after B."""
        return () if self.num_agents is None else (self.num_agents,)

    @property
    def takes_turns(self) -> bool:
        """Whether one agent moves at a time; the agent with the highest return wins such a game."""
        space = self.observation_space
        return self.num_agents is not None and isinstance(space, dict) and "turn" in space

    @property
    def has_sides(self) -> bool:
        """Whether agents play against each other: they form several groups or take turns."""
        return len(set(self.groups)) > 1 or self.takes_turns

    @property
    def obs(self) -> Any:
        """An example observation with one batch axis: leaves [1, *O]."""
        return example(self.observation_space)

    @property
    def action(self) -> Any:
        """An example action with one batch axis: [1, A] float, [1] int, or [1, N, ...]."""
        return example(self.action_space, (1, *self.agent_shape))
