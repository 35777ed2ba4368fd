"""Independent PPO, de Witt et al. 2020, arXiv:2011.09533, with the settings of MAPPO's MPE runs.

Yu et al. 2021, arXiv:2103.01955, app. D: rollouts of an episode of 25 steps, 10 epochs, values
normalised, Huber loss of width 10. But 16 environments and 4 minibatches in place of 128 and 1: of
the same steps 32 times the updates, which cost as much time and learn far more.

Games by turns learn by self-play, where a policy that settles early is met by one that settled
with it: with an entropy cost of 0.05 and a rate of 5e-4 in tic-tac-toe the first player comes to
win always and the second to block nothing.
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
}  # where these replace those above


@dataclass(frozen=True)
class IPPORecipe(SharedRecipe, PPORecipe):
    """PPO for several agents, each with values of its own view."""

    derived: ClassVar[tuple[str, ...]] = ("anneal_updates", "corrected")

    algorithm: PPO = INDEPENDENT
    num_envs: int = 16
    length: int = 25

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if spec.takes_turns:
            algorithm, sharing = cls.algorithm.replace(**BY_TURNS), usual_sharing(spec)
            length = max(32, 2 * (spec.num_agents or 1))  # holds two moves of each
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
