"""Discrete SAC, Christodoulou 2019, arXiv:1910.07207, with a lower entropy.

The paper's target entropy of 0.98 log A keeps the policy all but random; half of log A learns.
As for DQN there is one update per four steps, and vectors are normalised.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax

from parl.algorithms.dsac import DSAC
from parl.core.model import Model
from parl.core.spec import Discrete, EnvSpec, is_grid
from parl.models import CategoricalPolicy, DiscreteValues, Ensemble
from parl.models.encoder import inputs, is_image
from parl.models.heads import orthogonal_torso
from parl.recipes.shared.control import ControlRecipe

SETTINGS = DSAC(learning_rate=5e-4, critic_learning_rate=1e-3, tau=0.01, target_entropy=0.0)
SHARE = 0.5  # of the largest entropy, as the target


@dataclass(frozen=True)
class DSACRecipe(ControlRecipe):
    """Soft actor-critic for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("noise_color",)  # its policy draws its actions

    algorithm: DSAC = SETTINGS
    hidden: tuple[int, ...] = (128, 128)
    num_critics: int = 2
    length: int = 32
    batch_size: int = 128
    warmup: int = 1_000
    capacity: int = 200_000

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        algorithm, space = cls.algorithm_for(spec), spec.observation_space
        if not is_image(space):
            return cls(algorithm, normalize_obs=True)
        on_host = not is_grid(inputs(space))
        return cls(algorithm, hidden=(), warmup=5_000, capacity=100_000, replay_on_host=on_host)

    @classmethod
    def algorithm_for(cls, spec: EnvSpec) -> DSAC:
        actions: Any = spec.action_space
        return SETTINGS.replace(target_entropy=SHARE * math.log(actions.n))

    def networks(self, spec: EnvSpec) -> tuple[Model, Model]:
        space, actions = spec.observation_space, spec.action_space
        assert isinstance(actions, Discrete)
        torso = orthogonal_torso(self.hidden, jax.nn.relu)
        actor = CategoricalPolicy(space, actions, torso)
        return actor, Ensemble(DiscreteValues(space, actions.n, torso), self.num_critics)
