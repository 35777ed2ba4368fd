"""TD3 with the networks of its authors' code: two 256-unit layers, batches of 256.

Rates of 1e-3 and a warm-up of 10,000 steps are the paper's (Fujimoto et al. 2018, app. C), which
had 400 and 300 units and batches of 100. The authors' code later used 3e-4 and 25,000 steps, which
is slower at first.
"""

from dataclasses import dataclass

from parl.algorithms.td3 import TD3
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import Critic, Ensemble
from parl.models.control import DeterministicPolicy
from parl.recipes.shared.control import uniform_torso
from parl.recipes.shared.histories import HistoryRecipe
from parl.recipes.shared.memory import Head

PAPER = TD3(learning_rate=1e-3, critic_learning_rate=1e-3)


@dataclass(frozen=True)
class TD3Recipe(HistoryRecipe):
    """Twin delayed deterministic policy gradient."""

    algorithm: TD3 = PAPER
    hidden: tuple[int, ...] = (256, 256)
    num_critics: int = 2
    warmup: int = 10_000

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        size, count = spec.action.shape[-1], self.num_critics
        actor: Head = lambda space, torso: DeterministicPolicy(space, size, torso)
        critic: Head = lambda space, torso: Ensemble(Critic(space, torso), count)
        return self.pair(spec, uniform_torso(self.hidden), actor, critic)
