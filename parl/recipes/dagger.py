"""DAgger with the networks of BC; `parl train dagger --teacher RUN --env ID`."""

from dataclasses import dataclass
from typing import Any, ClassVar

import optax

from parl.agents.learner import Learner
from parl.algorithms.bc import BC
from parl.algorithms.dagger import DAgger
from parl.core.bound import bound
from parl.core.spec import EnvSpec
from parl.recipes.bc import BCRecipe

OWN = BC(learning_rate=1e-3)


@dataclass(frozen=True)
class DAggerRecipe(BCRecipe):
    """Imitation of a run's policy."""

    needs_data: ClassVar[bool] = False
    takes_data: ClassVar[bool] = False
    derived: ClassVar[tuple[str, ...]] = ("her", "her_share")  # the teacher acted for its own goal

    algorithm: BC = OWN
    num_envs: int = 4
    length: int = 8
    updates: int = 8
    capacity: int = 200_000
    teacher_steps: int = 5_000
    exploration: float = 0.0
    anneal: bool = False

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        updates = self.total_updates(steps, num_envs) * self.anneal
        algorithm = self.cloning(spec).replace(optimizer=bound(falling_adam, updates=updates))
        settings = {"teacher_steps": self.teacher_steps, "exploration": self.exploration}
        return self.replayed(DAgger(self.normalized(algorithm), **settings))


def falling_adam(rate: Any, updates: int) -> optax.GradientTransformation:
    """Adam whose rate falls linearly to 0 over so many updates; constant if 0."""
    return optax.adam(optax.linear_schedule(rate, 0.0, updates) if updates else rate)
