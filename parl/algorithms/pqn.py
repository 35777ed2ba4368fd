"""PQN: Q-learning on lambda returns of fresh rollouts, without replay or target network.

Gallici et al. 2024, arXiv:2407.04811. The network must have layer normalisation, which makes it
stable. With several agents the values are mixed, by PQN-VDN as a sum. Shapes: T time, B
environments, N agents, A actions, M = T * B / minibatches, or B / minibatches sequences [M, T].
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.qmix import init_mixed, mix, team_transitions
from parl.algorithms.shared.minibatches import as_samples, swap_axes, sweep
from parl.algorithms.shared.optimizers import Optimizer
from parl.algorithms.shared.q_learning import QLearning, greedy
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, Step, descend, static
from parl.models import recurrent


class PQNState(struct.PyTreeNode):
    """The learned state of PQN, and the counter that drives exploration."""

    net: Net  # params: those of q; with a mixer {"q": ..., "mixer": ...}
    env_steps: Array  # [] int32


class Sample(struct.PyTreeNode):
    """One minibatch, leaves [M, ...], or [M, T, ...] for a recurrent network."""

    obs: Any
    first: Array
    action: Array
    target: Array  # of the value, mixed if there are agents
    active: Array | None  # whether any agent acted; None for one agent
    memory: Any  # [M, ...] before the first step


class PQN(QLearning):
    """Regression to lambda returns in several epochs of one rollout [T, B, ...]."""

    optimizer: Optimizer = static(default=optax.radam)  # as in the paper
    epochs: int = static(default=2)
    minibatches: int = static(default=16)
    lambda_: float = 0.65

    @property
    def steps_per_update(self) -> int:
        return self.epochs * self.minibatches

    def init(self, key: Array, spec: EnvSpec) -> PQNState:
        params = self.init_params(key, spec)
        net = Net(params, self.transformation.init(params))
        return PQNState(net, jnp.zeros((), jnp.int32))

    def init_params(self, key: Array, spec: EnvSpec) -> Params:
        """Initial parameters."""
        return recurrent.init(self.q, key, spec.obs)

    def update(self, state: PQNState, batch: Rollout, key: Array) -> tuple[PQNState, Metrics]:
        data = self.samples(state.net.params, batch)
        step = lambda net, minibatch: descend(self.transformation, self.loss, net, minibatch)
        net, metrics = sweep(step, state.net, data, key, self.epochs, self.minibatches)
        return state.replace(net=net), metrics

    def samples(self, params: Params, batch: Rollout) -> Sample:
        """The whole rollout with its lambda returns, eq. 14, under the greedy policy of `params`.

        Exploratory actions do not cut the returns, as in the paper.
        """
        steps = batch.steps
        acting = self.acting(params)
        q, memories = recurrent.unroll(self.q, acting, steps.obs, steps.first, batch.memory)
        step = partial(recurrent.step, self.q, acting)
        next_q = recurrent.following(step, steps.next_obs, memories, q, ops.cut(steps))
        best = greedy(next_q, ops.legal_actions(steps.next_obs))
        target, active = self.returns(params, steps, ops.select(next_q, best))
        sample = Sample(steps.obs, steps.first, steps.action, target, active, memory=())
        sequences = recurrent.is_recurrent(self.q)
        return as_samples(sample, sequences).replace(memory=batch.memory)

    def returns(self, params: Params, steps: Step, next_value: Array) -> tuple[Array, Any]:
        """(lambda returns [T, B], steps to learn from [T, B] or None for all)."""
        discount = self.gamma * steps.discount
        target = ops.lambda_returns(steps.reward, discount, steps.last, next_value, self.lambda_)
        return target, None

    def value(self, params: Params, chosen: Array, obs: Any) -> Array:
        """What is regressed to the returns, from the values of the actions taken."""
        return chosen

    def loss(self, params: Params, batch: Sample) -> tuple[Array, Metrics]:
        """Half the squared error of the values of the actions taken, eq. 15."""
        memory, batch = batch.memory, batch.replace(memory=())
        if recurrent.is_recurrent(self.q):
            batch = swap_axes(batch)
        q, _ = recurrent.unroll(self.q, self.acting(params), batch.obs, batch.first, memory)
        chosen = ops.select(q, batch.action)
        error = self.value(params, chosen, batch.obs) - jax.lax.stop_gradient(batch.target)
        loss = 0.5 * ops.mean(error**2, batch.active)
        return loss, {"loss": loss, "q": ops.mean(chosen, ops.active_agents(batch.obs))}


class PQNVDN(PQN):
    """The same for a team, whose values are mixed, by the sum in the paper."""

    mixer: Model = static(default=None)  # q [..., N], state [..., S] -> [...]

    def init_params(self, key: Array, spec: EnvSpec) -> Params:
        return init_mixed(self.q, self.mixer, key, spec)

    def acting(self, params: Params) -> Params:
        return params["q"]

    def returns(self, params: Params, steps: Step, next_value: Array) -> tuple[Array, Any]:
        total = mix(self.mixer, params["mixer"], next_value, steps.next_obs)
        deltas = team_transitions(steps, total, total, self.gamma, self.lambda_)
        reward, discount, last, _, next_value, lambda_, active = deltas
        return ops.lambda_returns(reward, discount, last, next_value, lambda_), active

    def value(self, params: Params, chosen: Array, obs: Any) -> Array:
        return mix(self.mixer, params["mixer"], chosen, obs)
