"""FlashSAC as in Kim et al. 2026, arXiv:2604.04539, with its settings for one environment on a CPU.

Batches of 512, one update per step, a policy update every second time, noise held for several
steps.
"""

import math
from dataclasses import dataclass
from typing import Any

import optax

from parl.algorithms.flashsac import FlashSAC
from parl.core.bound import bound
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.models import Ensemble
from parl.models.control import Critic, SquashedNormalPolicy
from parl.models.torsos import FlashTorso, UnitDense
from parl.ops.noise import Noise, Repeated
from parl.recipes.shared.control import ScaledRecipe

PAPER = FlashSAC(policy_period=2, tau=0.01, initial_temperature=0.01)
SIGMA = 0.15  # the policy's target entropy is that of a normal this wide


@dataclass(frozen=True)
class FlashSACRecipe(ScaledRecipe):
    """SAC with few updates of large, bounded networks."""

    algorithm: FlashSAC = PAPER
    width: int = 256  # of the critics
    blocks: int = 2
    actor_width: int = 128
    actor_blocks: int = 2
    batch_size: int = 512
    warmup: int = 10_000
    longest_noise: int = 16  # steps that a draw of noise is held for at most

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> FlashSAC:
        entropy = spec.action.shape[-1] * math.log(SIGMA * math.sqrt(2 * math.pi * math.e))
        return PAPER.replace(target_entropy=entropy)

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space, linear = spec.observation_space, bound(UnitDense, use_bias=True)
        torso = FlashTorso(self.actor_width, self.actor_blocks)
        actor = SquashedNormalPolicy(space, spec.action.shape[-1], torso, linear)
        torso = FlashTorso(self.width, self.blocks)
        critic = Critic(space, torso, self.bins, self.histogram, linear)
        return actor, Ensemble(critic, self.num_critics)

    def noise(self, size: int) -> Noise:
        return super().noise(size) if self.noise_color else Repeated(size, 2.0, self.longest_noise)

    @property
    def final_rate(self) -> float:
        return 0.5

    def optimizer(self, updates: int) -> Any:
        return bound(halving_adam, updates=max(updates, 1))


def halving_adam(rate: Any, updates: int) -> optax.GradientTransformation:
    """Adam whose rate falls to half, as a cosine."""
    return optax.adam(optax.cosine_decay_schedule(rate, updates, alpha=0.5))
