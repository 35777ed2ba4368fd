"""Multi-agent PPO, Yu et al. 2021, arXiv:2103.01955: PPO with a critic of the global state."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from parl.algorithms.ppo import PPO
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import Value
from parl.recipes.ippo import INDEPENDENT, IPPORecipe

TEAM = INDEPENDENT.replace(team_reward=True)


@dataclass(frozen=True)
class MAPPORecipe(IPPORecipe):
    """PPO for a team: the critic sees the global state and values every agent."""

    algorithm: PPO = TEAM

    def critic(self, spec: EnvSpec) -> Model:
        value: Any = Value
        if self.sharing == "none":
            return self.agents(spec, lambda space: self.network(space, value), sees="state")
        space: Any = spec.observation_space
        head: Any = partial(Value, agents=spec.num_agents)
        return self.network({"state": space["state"]}, head)
