"""SAC as in Haarnoja et al. 2018: two 256-unit layers, two critics, one update a step.

Orthogonal weights and a target entropy of half the action dimensions are those of jaxrl, a
reference implementation on JAX.
"""

from dataclasses import dataclass

import jax

from parl.agents.learner import Learner
from parl.algorithms.sac import SAC
from parl.core.spec import EnvSpec
from parl.models import ActionValue, Ensemble, TanhNormalPolicy, orthogonal_torso
from parl.recipes.control import ControlRecipe

PAPER = SAC()


@dataclass(frozen=True)
class SACRecipe(ControlRecipe):
    """Soft actor-critic for continuous control."""

    algorithm: SAC = PAPER
    hidden: tuple[int, ...] = (256, 256)
    num_critics: int = 2

    @classmethod
    def for_env(cls, spec: EnvSpec) -> "SACRecipe":
        target_entropy = -spec.action.shape[-1] / 2
        warmup = 1_000 if (spec.max_steps or 1000) <= 200 else 5_000
        return cls(algorithm=SAC(target_entropy=target_entropy), warmup=warmup)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        space, torso = spec.observation_space, orthogonal_torso(self.hidden, jax.nn.relu)
        actor = TanhNormalPolicy(space, spec.action.shape[-1], torso)
        critic = Ensemble(ActionValue(space, torso), self.num_critics)
        return self.off_policy(self.algorithm.replace(actor=actor, critic=critic))
