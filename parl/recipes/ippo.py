"""Independent PPO, de Witt et al. 2020, arXiv:2011.09533, with MAPPO's settings for MPE.

Yu et al. 2021, arXiv:2103.01955, app. D: rollouts of one episode of 25 steps, 10 epochs, normalised
values, Huber loss of width 10. Unlike there, it uses 16 environments and 4 minibatches instead of
128 and 1: 32 times as many updates for the same steps, which learns more.

Turn-based games are learned by self-play, where both sides can settle on a poor equilibrium early:
in tic-tac-toe with an entropy cost of 0.05 and a learning rate of 5e-4, the first player learns to
always win and the second never learns to block. The entropy cost is therefore high.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from parl.algorithms.ppo import PPO
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import Value
from parl.recipes.ppo import PPORecipe
from parl.recipes.shared.multi_agent import SharedRecipe, usual_sharing

INDEPENDENT = PPO(
    epochs=10,
    minibatches=4,
    learning_rate=7e-4,
    entropy_cost=0.01,
    value_cost=1.0,
    max_grad_norm=10.0,
    huber_delta=10.0,
    normalize_value=True,
)
BY_TURNS = {
    "epochs": 4,
    "learning_rate": 2e-3,
    "entropy_cost": 0.3,
    "gamma": 1.0,
}  # these replace the settings above


@dataclass(frozen=True)
class IPPORecipe(SharedRecipe, PPORecipe):
    """PPO for several agents, each with a value of its own observation."""

    derived: ClassVar[tuple[str, ...]] = ("anneal_updates", "corrected")

    algorithm: PPO = INDEPENDENT
    num_envs: int = 16
    length: int = 25

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if spec.takes_turns:
            algorithm, sharing = cls.algorithm.replace(**BY_TURNS), usual_sharing(spec)
            length = max(32, 2 * (spec.num_agents or 1))  # holds two moves of each agent
            return cls(
                algorithm=algorithm,
                sharing=sharing,
                hidden=(128, 128),
                num_envs=128,
                length=length,
            )
        length = min(max(spec.max_steps or 128, 16), 128)
        return cls(length=length, num_envs=16 if length <= 32 else 32, sharing=usual_sharing(spec))

    def actor(self, spec: EnvSpec) -> Model:
        head = self.policy_head(spec)
        return self.agents(spec, lambda space: self.network(space, head))

    def critic(self, spec: EnvSpec) -> Model:
        value: Any = Value
        return self.agents(spec, lambda space: self.network(space, value))
