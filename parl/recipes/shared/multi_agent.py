"""What the recipes for several agents have in common: who shares parameters with whom."""

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
    """Settings of networks that agents share; a second base of a recipe."""

    multi_agent: ClassVar[bool] = True

    sharing: str = "all"  # of parameters: all agents, group (those of one role), none
    agent_id: bool = False  # networks are told which agent they act for

    def agents(
        self, spec: EnvSpec, make: Callable[[Any], Model], sees: str = "view", extra: int = 0
    ) -> Agents:
        """`make(space)` for each agent, shared as the settings say.

        The network sees the agent's `view` or the `state` of all, and `extra` numbers behind it.
        """
        count: Any = spec.num_agents
        space: Any = spec.observation_space
        size = space[sees].shape[-1] + extra + count * self.agent_id
        sets = self.parameter_sets(count, spec.groups)
        network, sizes = make({sees: Box((size,))}), spec.action_sizes
        return Agents(network, count, sets, self.agent_id, sees, action_sizes=sizes)

    def parameter_sets(self, count: int, groups: tuple[int, ...]) -> tuple[int, ...]:
        """The set of parameters of each agent; () where all have the same."""
        if self.sharing not in SHARING:
            known = ", ".join(SHARING)
            raise ConfigError(f"setting 'sharing' is '{self.sharing}'; it can be {known}.")
        if self.sharing == "none":
            return tuple(range(count))
        return groups if self.sharing == "group" and len(set(groups)) > 1 else ()


def usual_sharing(spec: EnvSpec) -> str:
    """Agents of one role share their parameters."""
    return "group" if len(set(spec.groups)) > 1 else "all"


def usual_discount(spec: EnvSpec) -> float:
    """Short episodes take few steps ahead into account, which tells actions apart sooner."""
    return 0.9 if spec.max_steps and spec.max_steps <= 50 else 0.99
