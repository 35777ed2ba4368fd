"""COMA, Foerster et al. 2018, arXiv:1705.08926, with our own settings."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax.numpy as jnp

from parl.agents.learner import Learner
from parl.algorithms.coma import COMA
from parl.core.model import Model
from parl.core.spec import Discrete, EnvSpec
from parl.models import Critic, orthogonal_torso
from parl.recipes.shared.actor_critic import ActorCriticRecipe
from parl.recipes.shared.multi_agent import SharedRecipe, usual_sharing

DEFAULT = COMA(
    team_reward=True,
    learning_rate=1e-3,
    lambda_=0.8,
    entropy_cost=0.01,
    max_grad_norm=10.0,
)


def every_action(outputs: Any) -> Any:
    """One value for each action."""
    return outputs


@dataclass(frozen=True)
class COMARecipe(SharedRecipe, ActorCriticRecipe):
    """Counterfactual policy gradients of a team, for discrete actions."""

    serves: ClassVar[tuple[type, ...]] = (Discrete,)
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates", "corrected", "value_cost")

    algorithm: COMA = DEFAULT
    num_envs: int = 32
    length: int = 25

    @classmethod
    def for_env(cls, spec: EnvSpec) -> Self:
        length = min(max(spec.max_steps or 32, 8), 32)
        return cls(length=length, sharing=usual_sharing(spec), normalize_reward=True)

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        self.check_minibatches(num_envs, whole=False)  # critics see the state and need no memory
        return super().learner(spec, steps, num_envs)

    def actor(self, spec: EnvSpec) -> Model:
        head = self.policy_head(spec)
        return self.agents(spec, lambda space: self.network(space, head))

    def critic(self, spec: EnvSpec) -> Model:
        actions: Any = spec.action_space
        torso = orthogonal_torso(self.hidden, jnp.tanh)
        make: Any = lambda space: Critic(space, torso, actions.n, every_action)
        return replace(self, agent_id=True).agents(spec, make, sees="state")
