"""DQN: our own settings for vector observations, those of Mnih et al. 2015 for images.

For vectors, errors are squared and gradients are not clipped. With unclipped rewards, a Huber loss
of width 1 or a clipped gradient would give the rare terminal steps too little weight, and values
would drift above 1 / (1 - gamma). Quantiles, whose loss has that width, get rewards scaled to
returns of unit size for the same reason. Normalised observations, a slowly moving target and a
replay large enough to keep early failures make learning stable.

For grids of truth values the settings are those of MinAtar's authors (arXiv:1903.03176), but for
Adam, and for one update per four steps, which is four times cheaper.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax

from parl.agents.learner import Learner
from parl.algorithms.dqn import DQN
from parl.core.bound import bound
from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.spec import Discrete, EnvSpec, is_grid
from parl.models import MLP, DiscreteValues, ImplicitValues, NoisyDense
from parl.models.encoder import inputs, is_image
from parl.ops.value_distributions import Histogram, Quantiles
from parl.recipes.base import OffPolicyRecipe

VECTORS = DQN(
    learning_rate=5e-4,
    target_period=1,
    tau=0.01,
    huber_delta=1e3,
    max_grad_norm=1e6,
    epsilon_end=0.05,
    epsilon_steps=40_000,
)
IMAGES = DQN(learning_rate=1e-4, target_period=1_000, epsilon_end=0.01, epsilon_steps=1_000_000)
GRIDS = DQN(learning_rate=2.5e-4, target_period=250, epsilon_steps=100_000)
OF_QUANTILES = ("quantile", "implicit")
VALUES = ("scalar", "categorical", *OF_QUANTILES)


@dataclass(frozen=True)
class DQNRecipe(OffPolicyRecipe):
    """Double deep Q-network for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates",)

    algorithm: DQN = VECTORS
    hidden: tuple[int, ...] = (128, 128)
    dueling: bool = False
    noisy: bool = False
    values: str = "scalar"  # or categorical, quantile, implicit
    quantiles: int = 16
    bins: int = 51
    value_min: float = -100.0
    value_max: float = 100.0
    length: int = 64
    updates: int = 16
    batch_size: int = 128
    warmup: int = 1_000
    capacity: int = 200_000
    anneal: bool = True  # the learning rate falls linearly to 0 at the end of the run

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        if is_grid(inputs(spec.observation_space)):
            return cls(
                algorithm=cls.variant(GRIDS),
                hidden=(),
                value_min=-10.0,
                num_envs=8,
                length=8,
                batch_size=32,
                warmup=5_000,
                capacity=100_000,
                anneal=False,
            )
        if not is_image(spec.observation_space):
            return cls(
                algorithm=cls.variant(VECTORS),
                normalize_obs=True,
                normalize_reward=cls.values in OF_QUANTILES,
            )
        return cls(
            algorithm=cls.variant(IMAGES),
            hidden=(),
            value_min=-10.0,
            value_max=10.0,
            replay_on_host=True,
            capacity=100_000,
            length=4,
            updates=1,
            batch_size=32,
            warmup=80_000,
        )

    @classmethod
    def variant(cls, algorithm: DQN) -> DQN:
        """DQN's hyperparameters with those that a descendant's paper changes."""
        return algorithm

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        actions = spec.action_space
        assert isinstance(actions, Discrete)
        q = self.network(spec.observation_space, actions.n)
        updates = self.total_updates(steps, num_envs) * self.anneal
        return self.off_policy(self.algorithm.replace(q=q, anneal_updates=updates))

    def network(self, space: Any, actions: int) -> Model:
        """The network of values. Raises ConfigError for an unknown form of them."""
        layer: dict[str, Any] = {"linear": NoisyDense} if self.noisy else {}
        mlp = lambda hidden: MLP(hidden, jax.nn.relu, **layer)
        head: dict[str, Any] = {"dueling": self.dueling} | layer
        if self.values == "implicit":  # the last layer follows the levels, as in the paper
            parts = mlp(self.hidden[:-1]), mlp(self.hidden[-1:])
            return ImplicitValues(space, actions, *parts, quantiles=self.quantiles, **head)
        torso = mlp(self.hidden)
        match self.values:
            case "scalar":
                return DiscreteValues(space, actions, torso, **head)
            case "quantile":
                head |= {"outputs": self.quantiles, "form": Quantiles}
                return DiscreteValues(space, actions, torso, **head)
            case "categorical":
                head |= {"outputs": self.bins, "form": self.histogram()}
                return DiscreteValues(space, actions, torso, **head)
        known = ", ".join(VALUES)
        raise ConfigError(f"setting 'values' is '{self.values}'; it can be {known}.")

    def histogram(self) -> Any:
        """The form of a distribution over fixed returns. Raises ConfigError if they are none."""
        if not self.value_min < self.value_max:
            raise ConfigError(
                f"value_min {self.value_min:g} must lie below value_max {self.value_max:g}."
            )
        return bound(Histogram, low=self.value_min, high=self.value_max)
