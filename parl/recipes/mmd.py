"""Magnetic mirror descent, Sokota et al. 2023, arXiv:2206.05825: PPO for games of two players.

The settings are our own, found on Leduc poker: large batches, returns without discount, and a
magnet that is uniform and fades. R-NaD, arXiv:2206.15378, is `--magnet-every 100
--transform-rewards --magnet-cost 0.2 --magnet-cost-end 0.2`.

What differs from the papers: PPO's clipped surrogate and several epochs stand for the linear term,
advantages are standardised, and alpha falls geometrically over the run. R-NaD's paper learns by
V-trace and NeuRD and moves smoothly from one magnet to the next; here it is PPO, and the magnet is
copied.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from parl.agents.learner import Learner
from parl.algorithms.mmd import MMD
from parl.core.errors import ConfigError
from parl.core.spec import Discrete, EnvSpec
from parl.recipes.ippo import IPPORecipe
from parl.recipes.shared.multi_agent import usual_sharing

DEFAULT = MMD(
    epochs=4,
    minibatches=4,
    learning_rate=7e-4,
    entropy_cost=0.0,
    value_cost=1.0,
    max_grad_norm=1.0,
    gamma=1.0,
    normalize_value=True,
    magnet_cost=0.4,
    magnet_cost_end=0.06,
    step_cost=0.05,
)


@dataclass(frozen=True)
class MMDRecipe(IPPORecipe):
    """PPO drawn to a magnet, for games of hidden information, for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates", "corrected", "team_reward")

    algorithm: MMD = DEFAULT
    hidden: tuple[int, ...] = (64, 64)
    num_envs: int = 128
    length: int = 32

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        return cls(sharing=usual_sharing(spec), length=max(32, 2 * (spec.num_agents or 1)))

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        own: Any = self.algorithm
        if own.transform_rewards and not own.magnet_every:
            raise ConfigError(
                "transform_rewards needs a magnet that follows the policy: add --magnet-every 100."
            )
        return super().learner(spec, steps, num_envs)
