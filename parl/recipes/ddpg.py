"""DDPG as Fujimoto et al. 2018 retuned it ("our DDPG"): TD3 without its three changes.

The original, Lillicrap et al. 2016, is `--hidden 400 300 --learning-rate 1e-4
--critic-learning-rate 1e-3 --tau 0.001 --batch-size 64 --noise-theta 0.15 --exploration 0.2`, but
for its batch normalisation and weight decay; it learns far slower.
"""

from dataclasses import dataclass

from parl.algorithms.td3 import TD3
from parl.ops.noise import Noise, OrnsteinUhlenbeck
from parl.recipes.td3 import TD3Recipe

PAPER = TD3Recipe.algorithm.replace(policy_period=1, smoothing=0.0)


@dataclass(frozen=True)
class DDPGRecipe(TD3Recipe):
    """Deep deterministic policy gradient."""

    algorithm: TD3 = PAPER
    num_critics: int = 1
    noise_theta: float = 0.0  # pull of Ornstein-Uhlenbeck noise; 0 for noise of `noise_color`

    def noise(self, size: int) -> Noise:
        return (
            OrnsteinUhlenbeck(size, self.noise_theta) if self.noise_theta else super().noise(size)
        )
