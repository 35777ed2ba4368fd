"""Decision Transformer with the settings for continuous control of Chen et al. 2021, table 9.

By default it asks for the best return in the data, and sees returns as shares of the largest.
Observations are normalised by the moments of the data.

What differs from the paper: the return to ask for and its scale come from the data, where the
paper gives numbers for each environment.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from parl.agents.learner import Learner
from parl.agents.replay.segments import Segments
from parl.algorithms.dt import DT
from parl.core.errors import ConfigError
from parl.core.rewards import apart
from parl.core.spec import Box, Discrete, EnvSpec
from parl.models.decision_transformer import DecisionTransformer
from parl.recipes.base import OffPolicyRecipe
from parl.recipes.shared.memory import windows_of

PAPER = DT()
TIMES = 1_000  # steps with features of their own where episodes have no bound


@dataclass(frozen=True)
class DTRecipe(OffPolicyRecipe):
    """Decision Transformer: a policy that is asked for a return."""

    serves: ClassVar[tuple[type, ...]] = (Box, Discrete)
    needs_data: ClassVar[bool] = True
    only_data: ClassVar[bool] = True
    sees_reward: ClassVar[bool] = True
    derived: ClassVar[tuple[str, ...]] = ("n_step", "her", "her_share")

    algorithm: DT = PAPER
    width: int = 128
    layers: int = 3
    heads: int = 1
    dropout: float = 0.1
    window: int = 20
    batch_size: int = 64
    warmup: int = 0
    normalize_obs: bool = True

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        return cls()

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} does not divide into {self.heads} heads.")
        actions: Any = spec.action_space
        actor = DecisionTransformer(
            apart(spec.observation_space)[0],
            actions,
            self.window,
            self.width,
            self.layers,
            self.heads,
            self.dropout,
            spec.max_steps or TIMES,
        )
        return self.off_policy(self.algorithm.replace(actor=actor))

    def sampled(self, replay: Any) -> Segments:
        return windows_of(replay, self.window, 0)
