"""QMIX: the value of a joint action is monotone in each agent's own value.

Rashid et al. 2018, arXiv:1803.11485. With the sum as its mixer it is VDN (arXiv:1706.05296),
without mixing it is independent Q-learning. Shapes: T time, B batch, N agents, A actions, S state.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from parl import ops
from parl.algorithms.dqn import DQN, DQNState
from parl.algorithms.shared.minibatches import swap_axes
from parl.algorithms.shared.q_learning import greedy
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Params, Rollout, Step, static
from parl.models import modes, recurrent


class QMIX(DQN):
    """Double Q-learning of joint actions; batches are segments [B, T, ...] with their memory."""

    mixer: Model = static(default=None)  # q [..., N], state [..., S] -> [...], or [..., N]

    def init(self, key: Array, spec: EnvSpec) -> DQNState:
        return self.start(init_mixed(self.q, self.mixer, key, spec))

    def acting(self, params: Params) -> Params:
        return params["q"]

    def items(self, rollout: Rollout) -> Rollout:
        """One item per environment: the whole segment, [B, T, ...], with its first memory."""
        return rollout._replace(steps=swap_axes(rollout.steps))

    def loss(
        self, params: Params, target_params: Params, batch: Rollout, key: Array
    ) -> tuple[Array, Metrics]:
        """Huber loss of the TD error of mixed values, eq. 6, at steps with an acting agent."""
        steps = swap_axes(batch.steps)  # [T, B, ...]
        q, next_q = self.values(params["q"], steps, batch.memory)
        target_q = self.values(target_params["q"], steps, batch.memory)[1]
        chooser = next_q if self.double else target_q
        next_value = ops.select(target_q, greedy(chooser, steps.next_obs["legal"]))  # [T, B, N]
        value = ops.select(q, steps.action)
        total = mix(self.mixer, params["mixer"], value, steps.obs)
        next_total = mix(self.mixer, target_params["mixer"], next_value, steps.next_obs)
        deltas = self.transitions(steps, total, next_total)
        target = deltas.reward + ops.weighted(deltas.discount, deltas.next_value)
        error = ops.masked(total - jax.lax.stop_gradient(target), deltas.active)
        loss = ops.mean(ops.huber(error, self.huber_delta), deltas.active)
        size = jnp.abs(error).reshape(*steps.first.shape, -1).mean((0, -1))  # [B]
        q = ops.mean(value, ops.active_agents(steps.obs))
        return loss, {"loss": loss, "q": q, "td_error": size}

    def values(self, params: Params, steps: Step, memory: Any) -> tuple[Array, Array]:
        """Values [T, B, N, A] at obs and at next_obs."""
        q, memories = recurrent.unroll(self.q, params, steps.obs, steps.first, memory)
        step = partial(recurrent.step, self.q, params)
        return q, recurrent.following(step, steps.next_obs, memories, q, ops.cut(steps))

    def transitions(self, steps: Step, total: Array, next_total: Array) -> ops.Transitions:
        """One-step transitions of the team [T, B], or of each agent between its moves [T, B, N]."""
        one = total.ndim == steps.first.ndim
        of_agents = team_transitions if one else ops.own_transitions
        return of_agents(steps, total, next_total, self.gamma, 0.0)


def init_mixed(q: Model, mixer: Model, key: Array, spec: EnvSpec) -> Params:
    """Initial parameters {"q": ..., "mixer": ...}."""
    k_q, k_mixer = jax.random.split(key)
    values = jnp.zeros((1, *spec.agent_shape))
    mixing = modes.init(mixer, k_mixer, values, spec.obs["state"])
    return {"q": recurrent.init(q, k_q, spec.obs), "mixer": mixing}


def mix(mixer: Model, params: Params, value: Array, obs: Any) -> Array:
    """The value of the joint action, [...] or [..., N], from the agents' own values [..., N].

    If no agent has the turn, as when a game was cut, the living agents' values are averaged instead
    of summed. Without mixing, the value of an agent that waits is kept as well.
    """
    movers = ops.next_movers(obs)
    if "turn" in obs:
        idle = ~ops.active_agents(obs).any(-1, keepdims=True)
        value = jnp.where(idle, value / jnp.maximum(movers.sum(-1, keepdims=True), 1), value)
    total = mixer.apply(params, ops.masked(value, movers), obs["state"])
    return value if total.ndim == value.ndim else total


def team_transitions(
    steps: Step, total: Array, next_total: Array, gamma: Any, lambda_: Any
) -> ops.Transitions:
    """Transitions [T, B] between a team's moves, with the sum of its living agents' rewards.

    The episode of a team ends when no member is left alive. It waits while only others move. If a
    member is cut, the team's value includes that of the member's last view.
    """
    reward = ops.masked(steps.reward, steps.obs["alive"]).sum(-1)
    active, acts_next = (ops.active_agents(x).any(-1) for x in (steps.obs, steps.next_obs))
    goes_on = steps.next_obs["alive"].any(-1)
    last = steps.last | ops.agents_cut(steps).any(-1)
    tail = reward, steps.discount * goes_on, last, total, next_total, gamma, lambda_
    known = acts_next | (goes_on & ops.closes(steps).any(-1))
    return ops.between_turns(active, known, *tail)
