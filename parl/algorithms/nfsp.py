"""Neural fictitious self-play: a best response, and the average of all best responses.

Heinrich and Silver 2016, arXiv:1603.01121, algorithm 1. Each player begins an episode with a mode:
with probability `anticipation` it acts by the response, which learns by Q-learning from replay of
all play, else by the average. The average is learned by classification of what was done in the
first mode, from a reservoir, and is the answer of the algorithm: in games of two players whose
rewards sum to zero, the average of fictitious play goes to an equilibrium. Shapes: T time, B
environments or batch, N agents, A actions.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.optimizers import Optimizer, annealed
from parl.algorithms.wrappers.base import AlgorithmWrapper
from parl.algorithms.wrappers.match import choose
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, Strategy, descend, static


class NFSPState(struct.PyTreeNode):
    """The response's state, and the average."""

    inner: Any
    average: Net


class NFSPPolicy(struct.PyTreeNode):
    """What acting needs."""

    inner: Any
    average: Params


class NFSPMemory(NamedTuple):
    """The response's memory, and the mode of each player."""

    inner: Any
    mode: Array  # [B, N] int32: 1 the response, 0 the average, -1 before the first step


class Played(NamedTuple):
    """Rows of the reservoir: what the players of a step did."""

    obs: Any  # [..., N, ...] views and legal actions
    action: Array  # [..., N]
    counts: Array  # [..., N] bool, who acted, by its response


class NFSP(AlgorithmWrapper):
    """`inner` is the response, which learns values of actions; batches are of both memories."""

    average: Model = static(default=None)  # obs -> Categorical [..., N]
    optimizer: Optimizer = static(default=optax.adam)
    num_agents: int = static(default=2)
    anneal_updates: int = static(default=0)  # updates over which the rate falls to 0; 0: constant
    anticipation: float = 0.1  # probability of the response, eta
    average_learning_rate: float = 1e-3

    @property
    def transformation(self) -> optax.GradientTransformation:
        """The optimiser of the average."""
        return self.optimizer(annealed(self.average_learning_rate, self.anneal_updates))

    def init(self, key: Array, spec: EnvSpec) -> NFSPState:
        k_inner, k_average = jax.random.split(key)
        params = self.average.init(k_average, spec.obs)
        average = Net(params, self.transformation.init(params))
        return NFSPState(self.inner.init(k_inner, spec), average)

    def policy(self, state: NFSPState) -> NFSPPolicy:
        return NFSPPolicy(self.inner.policy(state.inner), state.average.params)

    def memory(self, batch_shape: tuple[int, ...]) -> NFSPMemory:
        mode = jnp.full((*batch_shape, self.num_agents), -1, jnp.int32)
        return NFSPMemory(self.inner.memory(batch_shape), mode)

    def act(
        self, policy: NFSPPolicy, obs: Any, memory: NFSPMemory, key: Array, explore: bool
    ) -> tuple[Array, NFSPMemory, dict[str, Any]]:
        """Exploring, extras hold `responds` [B, N] bool and a `ticket` [B] for the reservoir."""
        pi = self.average.apply(policy.average, obs)
        if not explore:
            return pi.mode(), memory, {}
        k_inner, k_average, k_mode, k_ticket = jax.random.split(key, 4)
        drawn = jax.random.bernoulli(k_mode, self.anticipation, memory.mode.shape)
        mode = jnp.where(memory.mode < 0, drawn.astype(jnp.int32), memory.mode)
        response, kept, _ = self.inner.act(policy.inner, obs, memory.inner, k_inner, True)
        responds = mode == 1
        action = choose(responds, response, pi.sample(k_average))
        ticket = jax.random.bits(k_ticket, mode.shape[:1])
        return action, NFSPMemory(kept, mode), {"responds": responds, "ticket": ticket}

    def strategy(
        self, policy: NFSPPolicy, obs: Any, memory: NFSPMemory
    ) -> tuple[Strategy, NFSPMemory]:
        """That of the average."""
        return Strategy(self.average.apply(policy.average, obs).probs), memory

    def items(self, rollout: Rollout) -> Any:
        """Items of `inner`, whose steps keep the extras."""
        return self.inner.items(rollout._replace(memory=rollout.memory.inner))

    def observe(self, state: NFSPState, rollout: Rollout) -> NFSPState:
        inner = rollout._replace(memory=rollout.memory.inner)
        return state.replace(inner=self.inner.observe(state.inner, inner))

    def update(self, state: NFSPState, batch: Any, key: Array) -> tuple[NFSPState, Metrics]:
        """One update of each, on batch.items and on batch.rows, which are Played [B, ...]."""
        inner, metrics = self.inner.update(state.inner, batch.items, key)
        average, told = descend(self.transformation, self.loss, state.average, batch.rows)
        return NFSPState(inner, average), metrics | told

    def loss(self, params: Params, played: Played) -> tuple[Array, Metrics]:
        """Cross entropy of what the responses did, algorithm 1."""
        log_prob = self.average.apply(params, played.obs).log_prob(played.action)
        loss = -ops.mean(log_prob, played.counts)
        return loss, {"average_loss": loss}


def responses_in(steps: Any) -> tuple[Played, Array, Array]:
    """(rows, which of them hold a response, tickets) of steps with leading axes [n, T]."""
    flat = lambda x: jnp.asarray(x).reshape(-1, *x.shape[2:])
    obs = {name: flat(steps.obs[name]) for name in ("view", "alive", "legal")}
    active = flat(ops.active_agents(jax.tree.map(jnp.asarray, steps.obs)))
    counts = active & flat(steps.extras["responds"])
    return Played(obs, flat(steps.action), counts), counts.any(-1), flat(steps.extras["ticket"])
