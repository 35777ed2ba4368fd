"""Gumbel MuZero with small networks: 16 simulations, and one update per 4 steps.

The unroll of 5 steps, the transform of values and the weight of their loss are those of
Schrittwieser et al. 2020 and 2021; all policies are found anew, as there in the limit. With few
actions and values that still say little, the search would settle on one action for good: values
that differ by less than `least_range` count by what they differ, and some moves are random.

What differs from the papers: dense networks, AdamW at a constant rate, windows drawn uniformly
rather than by priority, and a target network that moves slowly instead of being copied.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax

from parl.agents.learner import Learner
from parl.agents.replay.segments import Segments
from parl.algorithms.muzero import MuZero
from parl.core.spec import Discrete, EnvSpec
from parl.models import MLP
from parl.models.latent import Dynamics, Prediction, Representation
from parl.recipes.base import OffPolicyRecipe

SETTINGS = MuZero()


@dataclass(frozen=True)
class MuZeroRecipe(OffPolicyRecipe):
    """Gumbel MuZero, a search in a learned model, for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("horizon", "priority", "her", "her_share")
    takes_data: ClassVar[bool] = False

    algorithm: MuZero = SETTINGS
    hidden: tuple[int, ...] = (64,)
    latent: int = 64
    bins: int = 64
    n_step: int = 5
    num_envs: int = 16
    length: int = 16
    updates: int = 64
    batch_size: int = 64  # windows
    warmup: int = 1_000
    capacity: int = 100_000

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        return cls(normalize_obs=True)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        actions: Any = spec.action_space
        torso = MLP(self.hidden, jax.nn.elu)
        algorithm = self.algorithm.replace(
            representation=Representation(spec.observation_space, self.latent, torso),
            dynamics=Dynamics(actions.n, self.bins, torso),
            prediction=Prediction(actions.n, self.bins, torso),
            horizon=self.n_step,
        )
        return self.off_policy(algorithm)

    def sampled(self, replay: Any) -> Any:
        """Windows that hold the returns of the unrolled steps."""
        return Segments(replay, self.algorithm.unroll + self.n_step)
