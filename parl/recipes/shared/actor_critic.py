"""Base of the actor-critic recipes: networks, and annealing over the run."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from parl.agents.learner import Learner
from parl.core.errors import ConfigError
from parl.core.model import Model
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete, Space
from parl.models import Value, cell_output, orthogonal_torso, policy_head
from parl.models.encoder import Encoder, image_network, is_image
from parl.recipes.base import OnPolicyRecipe
from parl.recipes.shared.memory import Head, with_memory

# Most pixels of a game never change and would dominate the features, so pixels are normalised.
FOR_IMAGES: dict[str, Any] = {"hidden": (), "share_encoder": True, "normalize_obs": True}


@dataclass(frozen=True)
class ActorCriticRecipe(OnPolicyRecipe):
    """Settings of algorithms that learn a policy and its values, optionally recurrent."""

    serves: ClassVar[tuple[type, ...]] = (Box, Discrete, MultiDiscrete)
    derived: ClassVar[tuple[str, ...]] = ("anneal_updates", "corrected", "team_reward")

    hidden: tuple[int, ...] = (64, 64)
    recurrent: str = "none"  # or gru, lstm, lru: the cell of actor and critic
    memory_size: int = 64  # features of the cell
    share_encoder: bool = False  # actor and critic share the network that encodes images
    anneal: bool = True  # the learning rate falls linearly to 0 at the end of the run

    def learner(self, spec: EnvSpec, steps: int, num_envs: int) -> Learner:
        if self.share_encoder and not is_image(spec.observation_space):
            raise ConfigError("setting 'share_encoder' needs observations that are images.")
        algorithm = self.algorithm.replace(
            encoder=Encoder(spec.observation_space) if self.share_encoder else None,
            actor=self.actor(spec),
            critic=self.critic(spec),
            anneal_updates=self.total_updates(steps, num_envs) * self.anneal,
        )
        return self.on_policy(algorithm, spec.groups)

    def actor(self, spec: EnvSpec) -> Model:
        """obs -> distribution over actions."""
        return self.network(self.seen(spec), self.policy_head(spec))

    def critic(self, spec: EnvSpec) -> Model:
        """obs -> value."""
        return self.network(self.seen(spec), Value)

    def seen(self, spec: EnvSpec) -> Space:
        """The input space of actor and critic: features of the shared encoder, or observations."""
        if not self.share_encoder:
            return spec.observation_space
        features = cell_output(image_network(spec.observation_space).features)
        return features if spec.has_mask else features["output"]

    def policy_head(self, spec: EnvSpec) -> Head:
        """The policy over the environment's actions."""
        return lambda space, torso: policy_head(space, spec.action_space, torso)

    def network(self, space: Space, head: Head) -> Model:
        """A head over a torso, with the recurrent cell between them if there is one."""
        torso = orthogonal_torso(self.hidden, jnp.tanh)
        return with_memory(space, torso, head, self.recurrent, self.memory_size)
