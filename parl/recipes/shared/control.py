"""Base of the recipes for continuous control."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax
import optax

from parl.agents.learner import Learner
from parl.algorithms.shared.optimizers import Optimizer
from parl.algorithms.wrappers.normalized import Normalized
from parl.algorithms.wrappers.resets import Resetting
from parl.core.algorithm import Algorithm
from parl.core.bound import bound
from parl.core.model import Model
from parl.core.spec import Box, EnvSpec
from parl.models import MLP
from parl.models.control import UNIFORM
from parl.ops.noise import Colored, Noise, White
from parl.ops.value_distributions import Histogram
from parl.recipes.base import OffPolicyRecipe

SHORT_EPISODE_STEPS = (
    200  # environments with such episodes are usually learned in a few thousand steps
)

SHORT_WARMUP = 1_000  # steps, where episodes are short


@dataclass(frozen=True)
class ControlRecipe(OffPolicyRecipe):
    """Settings of off-policy actor-critics: `updates` updates after every `length` steps."""

    serves: ClassVar[tuple[type, ...]] = (Box,)

    length: int = 8
    updates: int = 8
    warmup: int = 5_000
    noise_color: float = 0.0  # of exploration: 0 white, 1 pink, 2 red
    reset_every: int = 0  # updates between fresh networks; 0: never

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        warmup = SHORT_WARMUP if has_short_episodes(spec) else cls.warmup
        return cls(cls.algorithm_for(spec), warmup=warmup)

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> Any:
        """The hyperparameters for such an environment."""
        return cls.algorithm

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        actor, critic = self.networks(spec)
        algorithm = self.algorithm.replace(
            actor=actor,
            critic=critic,
            noise=self.noise(spec.action.shape[-1]),
            optimizer=self.optimizer(self.total_updates(steps, num_envs)),
        )
        algorithm = self.remembering(algorithm)
        if self.reset_every:
            algorithm = Resetting(algorithm, spec, self.reset_every)
        return self.off_policy(algorithm)

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        """(actor, critic)."""
        raise NotImplementedError  # abstract

    def remembering(self, algorithm: Algorithm) -> Algorithm:
        """The algorithm, wrapped if its networks have memory."""
        return algorithm

    def noise(self, size: int) -> Noise:
        """Exploration noise for `size` action dimensions."""
        return Colored(size, self.noise_color) if self.noise_color else White()

    def optimizer(self, updates: int) -> Optimizer:
        """A function from a learning rate to an optimiser, for `updates` updates in total."""
        return optax.adam


@dataclass(frozen=True)
class ScaledRecipe(ControlRecipe):
    """Settings of categorical critics, with rewards scaled to keep returns within a bound."""

    num_critics: int = 2
    bins: int = 101
    return_bound: float = 5.0

    @property
    def histogram(self) -> Any:
        """The form of the critics' values."""
        return bound(Histogram, low=-self.return_bound, high=self.return_bound)

    def normalized(self, algorithm: Algorithm, groups: tuple[int, ...] = ()) -> Algorithm:
        return Normalized(
            algorithm,
            self.algorithm.gamma,
            self.normalize_obs,
            normalize_reward=True,
            num_envs=self.num_envs,
            return_bound=self.return_bound,
        )


def has_short_episodes(spec: EnvSpec) -> bool:
    """Whether episodes are short."""
    return (spec.max_steps or 1000) <= SHORT_EPISODE_STEPS


def uniform_torso(hidden: tuple[int, ...]) -> MLP:
    """Weights within 1 / sqrt(inputs), the default of PyTorch and many reference codes."""
    return MLP(hidden, jax.nn.relu, UNIFORM)


def for_horizon(algorithm: Any, spec: EnvSpec) -> Any:
    """SAC with a target entropy of -|A| / 2 and a discount for the length of episodes."""
    entropy = -spec.action.shape[-1] / 2
    return algorithm.replace(target_entropy=entropy, gamma=horizon_gamma(spec))


def horizon_gamma(spec: EnvSpec) -> float:
    """A discount for the length of episodes: Hansen et al. 2024, arXiv:2310.16828, app. H."""
    fifth = (spec.max_steps or 1000) / 5
    return min(max((fifth - 1) / fifth, 0.95), 0.995)
