"""Base of the multi-agent recipes: sharing of parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.spec import Box, EnvSpec
from parl.models import Agents

SHARING = ("all", "group", "none")


@dataclass(frozen=True)
class SharedRecipe:
    """Settings for sharing networks among agents; a mix-in of recipes."""

    multi_agent: ClassVar[bool] = True

    sharing: str = "all"  # of parameters: all agents, group (those of one role), none
    agent_id: bool = False  # append a one-hot index of the agent to the input

    def agents(
        self, spec: EnvSpec, make: Callable[[Any], Model], sees: str = "view", extra: int = 0
    ) -> Agents:
        """Runs `make(space)` for each agent, with parameters shared by the settings.

        The network sees the agent's `view` or the global `state`, followed by `extra` numbers.
        """
        count: Any = spec.num_agents
        space: Any = spec.observation_space
        size = space[sees].shape[-1] + extra + count * self.agent_id
        sets = self.parameter_sets(count, spec.groups)
        network, sizes = make({sees: Box((size,))}), spec.action_sizes
        return Agents(network, count, sets, self.agent_id, sees, action_sizes=sizes)

    def parameter_sets(self, count: int, groups: tuple[int, ...]) -> tuple[int, ...]:
        """The index of each agent's parameter set; () if all share one."""
        if self.sharing not in SHARING:
            known = ", ".join(SHARING)
            raise ConfigError(f"setting 'sharing' is '{self.sharing}'; it can be {known}.")
        if self.sharing == "none":
            return tuple(range(count))
        return groups if self.sharing == "group" and len(set(groups)) > 1 else ()


def usual_sharing(spec: EnvSpec) -> str:
    """The default: agents of the same role share parameters."""
    return "group" if len(set(spec.groups)) > 1 else "all"


def usual_discount(spec: EnvSpec) -> float:
    """The default discount: lower for short episodes, which makes credit assignment easier."""
    return 0.9 if spec.max_steps and spec.max_steps <= 50 else 0.99
