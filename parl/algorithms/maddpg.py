"""MADDPG: deterministic policies with critics that see the state and all agents' actions.

In turn-based environments a critic also values steps at which only others move, so that rewards
propagate from step to step. As in parl/ops/agents.py, discounting applies between an agent's own
moves.

Lowe et al. 2017, arXiv:1706.02275. With twin critics, delay and smoothing it is MATD3,
Ackermann et al. 2019, arXiv:1910.01465. Discrete actions are one-hot to the critics, and policies
reach them through straight-through Gumbel-softmax samples (Jang et al. 2017, arXiv:1611.01144).
Shapes: B batch, N agents, A action (or number of discrete ones), C critics.
"""

from typing import Any

import jax
import jax.numpy as jnp

from parl import ops
from parl.algorithms.shared.critics import critic_regression, init_net
from parl.algorithms.shared.q_learning import greedy
from parl.algorithms.td3 import TD3, TD3State
from parl.core.spec import Discrete, EnvSpec
from parl.core.types import Array, Metrics, Params, Step, static
from parl.models import modes
from parl.ops.value_distributions import as_values, least


class MADDPG(TD3):
    """Deterministic policy gradient of each agent; batches are single steps [B, ...].

    The actor returns actions [B, N, A], or logits of discrete ones. The critic takes the
    observation and, for each agent, the actions of all agents as one vector [B, N, N * A], and
    returns [C, B, N].
    """

    discrete: bool = static(default=False)
    team_reward: bool = static(default=False)  # each agent gets the sum of all agents' rewards
    temperature: float = 1.0  # of the Gumbel-softmax
    logit_cost: float = 1e-3  # weight of the logits' mean square

    def init(self, key: Array, spec: EnvSpec) -> TD3State:
        k_actor, k_critic = jax.random.split(key)
        actor = init_net(
            self.optimizer(self.learning_rate), modes.init(self.actor, k_actor, spec.obs)
        )
        space: Any = spec.action_space
        size = space.n if isinstance(space, Discrete) else space.shape[-1]
        actions = jnp.zeros((1, *spec.agent_shape, size * spec.agent_shape[0]))
        critic = modes.init(self.critic, k_critic, spec.obs, actions, renewed=True)
        return self.init_state(actor, init_net(self.optimizer(self.critic_learning_rate), critic))

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        if not self.discrete:
            return super().act(policy, obs, memory, key, explore)
        logits = self.actor.apply(policy, obs)
        if not explore:
            return greedy(logits, obs["legal"]), memory, {}
        logits = ops.mask_illegal(logits, obs["legal"])
        return jax.random.categorical(key, logits).astype(jnp.int32), memory, {}

    def critic_loss(
        self, params: Params, state: TD3State, batch: Step, key: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """Eq. 6 with the minimum over critics; next actions come from the target policies."""
        policy, next_obs = state.target["actor"], batch.next_obs
        if self.discrete:
            next_action, _ = self.relaxed(policy, next_obs, key)
        else:
            next_action = self.smooth(self.actor.apply(policy, next_obs), key)
        joint = same_for_all(masked_actions(next_action, next_obs))
        next_values = as_values(self.critic.apply(state.target["critic"], next_obs, joint))
        target = least(next_values).backup(*self.paid(batch))
        taken = same_for_all(self.as_vectors(batch))
        values, new = modes.train(self.critic, params, batch.obs, taken, key=key)
        loss, metrics = critic_regression(
            as_values(values), target, batch, self.taking_part(batch.obs)
        )
        return loss, (metrics, new)

    def taking_part(self, obs: Any) -> Array:
        """Agents whose values are learned, [B, N] bool: living ones, or all of a living team."""
        alive = obs["alive"]
        if not self.team_reward:
            return alive
        return jnp.broadcast_to(alive.any(-1, keepdims=True), alive.shape)

    def paid(self, batch: Step) -> tuple[Array, Array]:
        """(rewards, discounts) [B, N] of a step; gamma applies if the agent moves next."""
        reward, moves = batch.reward, ops.active_agents(batch.next_obs)
        if self.team_reward:
            reward = ops.team_reward(reward, batch.obs["alive"])
            moves = moves.any(-1, keepdims=True)
        gamma = jnp.where(moves, self.gamma, 1.0) if "turn" in batch.obs else self.gamma
        return reward, gamma * batch.discount[:, None] * self.taking_part(batch.next_obs)

    def actor_loss(
        self, params: Params, state: TD3State, batch: Step, key: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """Eq. 5: each agent's own action comes from its policy, the others' from the batch."""
        if self.discrete:
            action, logits = self.relaxed(params, batch.obs, key)
        else:
            action, logits = self.actor.apply(params, batch.obs), jnp.zeros(())
        joint = own_among_taken(action, self.as_vectors(batch))
        values = as_values(self.critic.apply(state.critic.params, batch.obs, joint))
        active = ops.active_agents(batch.obs)
        loss = -ops.mean(values.mean[0], active)
        cost = ops.mean((logits**2).mean(-1), active) if self.discrete else 0.0
        return loss + self.logit_cost * cost, ({"actor_loss": loss}, {})

    def relaxed(self, params: Params, obs: Any, key: Array) -> tuple[Array, Array]:
        """(one-hot samples [B, N, A] with the gradient of a softmax, logits [B, N, A])."""
        logits = self.actor.apply(params, obs)
        noisy = ops.mask_illegal(logits, obs["legal"]) + jax.random.gumbel(key, logits.shape)
        soft = jax.nn.softmax(noisy / self.temperature)
        hard = jax.nn.one_hot(noisy.argmax(-1), logits.shape[-1])
        return hard + soft - jax.lax.stop_gradient(soft), logits

    def as_vectors(self, batch: Step) -> Array:
        """The batch's actions as vectors for the critics, [B, N, A]."""
        action = batch.action
        if self.discrete:
            action = jax.nn.one_hot(action, batch.obs["legal"].shape[-1])
        return masked_actions(action, batch.obs)


def masked_actions(action: Array, obs: Any) -> Array:
    """Actions [B, N, A] with 0 for agents that are not active."""
    active: Any = ops.active_agents(obs)
    return ops.masked(action, active[..., None])


def same_for_all(action: Array) -> Array:
    """All agents' actions [B, N, A] repeated for each agent's critic, [B, N, N * A]."""
    count = action.shape[1]
    flat = action.reshape(action.shape[0], 1, -1)
    return jnp.broadcast_to(flat, (action.shape[0], count, flat.shape[-1]))


def own_among_taken(action: Array, taken: Array) -> Array:
    """Per agent, its own entry of `action` and the others' of `taken` [B, N, A]: [B, N, N * A]."""
    own = jnp.eye(action.shape[1], dtype=bool)[..., None]  # [N, N, 1]
    joint = jnp.where(own, action[:, None], taken[:, None])  # [B, N, N, A]
    return joint.reshape(*joint.shape[:2], -1)
