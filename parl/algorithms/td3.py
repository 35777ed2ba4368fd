"""TD3: deterministic policies with clipped double critics, delays and target smoothing.

Fujimoto et al. 2018, arXiv:1802.09477. With one critic, no delay and no smoothing it is DDPG,
Lillicrap et al. 2016, arXiv:1509.02971. Shapes: B batch, O observation, A action, C critics.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.critics import critic_regression, every_n, init_net, learn
from parl.algorithms.shared.optimizers import Optimizer
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Step, static
from parl.models import modes
from parl.ops.noise import Noise, Scaled, White
from parl.ops.value_distributions import as_values, least


class TD3State(struct.PyTreeNode):
    """Everything TD3 learns."""

    actor: Net
    critic: Net  # leaves [C, ...]
    target: dict[str, Params]  # averaged copies of actor and critic
    updates: Array  # [] int32


class TD3(Algorithm):
    """Deterministic policy gradient; batches are single steps [B, ...]."""

    actor: Model = static(default=None)  # obs [B, O] -> action [B, A]
    critic: Model = static(default=None)  # obs, action -> [C, B], or a ValueDistribution of these
    noise: Noise = static(default=White())
    optimizer: Optimizer = static(default=optax.adam)
    policy_period: int = static(default=2)  # critic updates per policy and target update
    learning_rate: float = 3e-4  # of the actor
    critic_learning_rate: float = 3e-4
    gamma: float = 0.99
    tau: float = 0.005
    exploration: float = 0.1  # standard deviation of exploration noise, in action units
    noise_spread: float = 0.0  # an environment's noise is 0.4^(spread place) of it
    smoothing: float = 0.2  # standard deviation of target noise
    smoothing_clip: float = 0.5

    @property
    def tolerates_lag(self) -> bool:
        return True

    def init(self, key: Array, spec: EnvSpec) -> TD3State:
        k_actor, k_critic = jax.random.split(key)
        actor = init_net(
            self.optimizer(self.learning_rate),
            modes.init(self.actor, k_actor, spec.obs, renewed=True),
        )
        critic = modes.init(self.critic, k_critic, spec.obs, spec.action, renewed=True)
        return self.init_state(actor, init_net(self.optimizer(self.critic_learning_rate), critic))

    def init_state(self, actor: Net, critic: Net) -> TD3State:
        """The state before the first update of these networks."""
        target = {"actor": actor.params, "critic": critic.params}
        target = jax.tree.map(jnp.copy, target)  # a donated buffer may not appear twice
        return TD3State(actor, critic, target, jnp.zeros((), jnp.int32))

    def policy(self, state: TD3State) -> Params:
        return state.actor.params

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        return self.noise.start(batch_shape)

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        action = self.actor.apply(policy, obs)
        if not explore:
            return action, memory, {}
        noise, memory = self.noise(key, memory, action.shape)
        return jnp.clip(action + self.exploration * noise, -1.0, 1.0), memory, {}

    def exploring(self, policy: Any, place: Array) -> tuple[Algorithm, Any]:
        """Every environment has noise of its own size."""
        return self.replace(noise=Scaled.apart(self.noise, self.noise_spread, place)), policy

    def update(self, state: TD3State, batch: Step, key: Array) -> tuple[TD3State, Metrics]:
        k_critic, k_policy = jax.random.split(key)
        optimizer = self.optimizer(self.critic_learning_rate)
        critic, info = learn(optimizer, self.critic_loss, state.critic, state, batch, k_critic)
        state = state.replace(critic=critic, updates=state.updates + 1)
        improve = lambda: self.update_policy(state, batch, k_policy)
        (actor, target), more = every_n(
            self.policy_period, state.updates, improve, (state.actor, state.target)
        )
        return state.replace(actor=actor, target=target), info | more

    def update_policy(
        self, state: TD3State, batch: Step, key: Array
    ) -> tuple[tuple[Net, Any], Metrics]:
        """Actor and targets after one step each."""
        optimizer = self.optimizer(self.learning_rate)
        actor, info = learn(optimizer, self.actor_loss, state.actor, state, batch, key)
        params = {"actor": actor.params, "critic": state.critic.params}
        return (actor, optax.incremental_update(params, state.target, self.tau)), info

    def critic_loss(
        self, params: Params, state: TD3State, batch: Step, key: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """Distance from the minimum target, algorithm 1, with smoothed next actions."""
        k_noise, k_now, k_next = jax.random.split(key, 3)
        next_action = self.smooth(self.actor.apply(state.target["actor"], batch.next_obs), k_noise)
        next_values = modes.perturb(
            self.critic, state.target["critic"], batch.next_obs, next_action, key=k_next
        )
        target = least(as_values(next_values)).backup(
            batch.reward, self.gamma * batch.discount, self.next_cost(next_action, batch)
        )
        values, new = modes.train(self.critic, params, batch.obs, batch.action, key=k_now)
        loss, metrics = critic_regression(as_values(values), target, batch)
        return loss, (metrics, new)

    def smooth(self, action: Array, key: Array) -> Array:
        """Actions [B, A] with clipped noise, eq. 14 and 15."""
        noise = self.smoothing * jax.random.normal(key, action.shape)
        noise = jnp.clip(noise, -self.smoothing_clip, self.smoothing_clip)
        return jnp.clip(action + noise, -1.0, 1.0)

    def actor_loss(
        self, params: Params, state: TD3State, batch: Step, key: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """Deterministic policy gradient through the first critic."""
        k_actor, k_critic = jax.random.split(key)
        action, statistics = modes.train(self.actor, params, batch.obs, key=k_actor)
        values = modes.perturb(self.critic, state.critic.params, batch.obs, action, key=k_critic)
        loss = self.policy_loss(as_values(values).mean, action, batch)
        return loss, ({"actor_loss": loss}, statistics)

    def policy_loss(self, q: Array, action: Array, batch: Step) -> Array:
        """The loss [] of a policy whose actions [B, A] have the values q [C, B]."""
        return -ops.mean(q[0], batch.extras.get("there"))

    def next_cost(self, next_action: Array, batch: Step) -> Array | float:
        """What is taken off the values of next actions [B, A]: [B] or a number."""
        return 0.0
