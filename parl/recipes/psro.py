"""PSRO, Lanctot et al. 2017, arXiv:1711.00832, with PPO as its oracle.

A response is learned in `response_rollouts`, over which its learning rate falls to 0, and the
payoffs of the pools are measured in `measure_rollouts`. The settings are our own.

What differs from the paper: the mixtures are an equilibrium of the measured payoffs, found by
regret matching, where the paper has projected replicator dynamics that keep exploring. Responses of
both players are learned at once. Beyond `responses` a new one replaces the least used. There is no
hierarchy of parallel levels.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from parl.agents.learner import Learner, OnPolicy
from parl.algorithms.ppo import PPO
from parl.algorithms.psro import PSRO
from parl.core.errors import ConfigError
from parl.core.spec import Discrete, EnvSpec
from parl.recipes.ippo import IPPORecipe

FEW_STEPS = 4
RESPONSE = PPO(
    epochs=4,
    minibatches=4,
    learning_rate=3e-3,
    entropy_cost=0.02,
    value_cost=1.0,
    max_grad_norm=1.0,
    gamma=1.0,
    normalize_value=True,
)


@dataclass(frozen=True)
class PSRORecipe(IPPORecipe):
    """Best responses by PPO to mixtures of earlier ones, for two players, for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    for_two: ClassVar[bool] = True
    derived: ClassVar[tuple[str, ...]] = (
        *("anneal_updates", "corrected", "team_reward", "sharing", "recurrent", "memory_size"),
        *("normalize_obs", "normalize_reward", "anneal"),
    )

    algorithm: PPO = RESPONSE
    sharing: str = "none"
    hidden: tuple[int, ...] = (64, 64)
    num_envs: int = 128
    length: int = 32
    responses: int = 16
    response_rollouts: int = 60
    measure_rollouts: int = 40

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if spec.max_steps and spec.max_steps <= FEW_STEPS:
            # many games, as an equilibrium of measured payoffs is no better than their measures
            return cls(num_envs=512, hidden=(32, 32), response_rollouts=30, measure_rollouts=20)
        return cls()

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        matches = 2 * self.responses
        if num_envs % matches:
            raise ConfigError(
                f"psro plays {matches} matches side by side, which {num_envs} environments do not "
                f"divide into: use a multiple of {matches}, or another --responses."
            )
        learner: Any = super().learner(spec, steps, num_envs)
        updates = self.response_rollouts * self.anneal
        inner = learner.algorithm.replace(anneal_updates=updates)
        own = self.responses, self.response_rollouts, self.measure_rollouts
        return OnPolicy(PSRO(inner, *own))
