"""DAgger with the networks of BC; `parl train dagger --teacher RUN --env ID`.

Observations are as they are: the teacher sees the same as the learner.
"""

from dataclasses import dataclass
from typing import ClassVar

from parl.agents.learner import Learner
from parl.algorithms.dagger import DAgger
from parl.core.errors import ConfigError
from parl.core.spec import EnvSpec
from parl.recipes.bc import BCRecipe

OWN = DAgger(learning_rate=1e-3)


@dataclass(frozen=True)
class DAggerRecipe(BCRecipe):
    """Imitation of a run's policy."""

    needs_data: ClassVar[bool] = False
    takes_data: ClassVar[bool] = False

    algorithm: DAgger = OWN
    num_envs: int = 4
    length: int = 8
    updates: int = 8
    capacity: int = 200_000
    normalize_obs: bool = False

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        if self.normalize_obs:
            raise ConfigError(
                "dagger's teacher sees what the learner sees: leave out --normalize-obs."
            )
        return super().learner(spec, steps, num_envs)
