"""What the recipes of the actor-critics share: their networks, and annealing over the run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from parl.agents.learner import Learner
from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete
from parl.models import CELLS, MLP, Recurrent, Value, cell_output, orthogonal_torso, policy_head
from parl.recipes.base import OnPolicyRecipe


@dataclass(frozen=True)
class ActorCriticRecipe(OnPolicyRecipe):
    """Settings of algorithms that learn a policy and its values, with memory or without."""

    serves: ClassVar[tuple[type, ...]] = (Box, Discrete, MultiDiscrete)
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates", "corrected")

    hidden: tuple[int, ...] = (64, 64)
    recurrent: str = "none"  # or gru, lstm: the cell of actor and critic
    memory_size: int = 64  # features of the cell
    anneal: bool = True  # the learning rate falls linearly to 0 at the end of the run

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        head = lambda space, torso: policy_head(space, spec.action_space, torso)
        algorithm = self.algorithm.replace(
            actor=self.network(spec, head),
            critic=self.network(spec, Value),
            anneal_updates=steps // (num_envs * self.length) * self.anneal,
        )
        return self.on_policy(algorithm)

    def network(self, spec: EnvSpec, head: Callable[[Any, MLP], Any]) -> Model:
        """A head over a torso, with the recurrent cell between them if there is one."""
        space, torso = spec.observation_space, orthogonal_torso(self.hidden, jnp.tanh)
        if self.recurrent == "none":
            return head(space, torso)
        if self.recurrent not in CELLS:
            known = ", ".join(("none", *CELLS))
            raise ConfigError(f"setting 'recurrent' is '{self.recurrent}'; it can be {known}.")
        cell = CELLS[self.recurrent](self.memory_size)
        return Recurrent(space, torso, cell, head(cell_output(self.memory_size), MLP(())))
