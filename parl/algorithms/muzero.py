"""Gumbel MuZero: a search in a learned model, whose policies are found anew for replayed steps.

Schrittwieser et al. 2020, arXiv:1911.08265, with the search and the policy targets of Danihelka et
al. 2022, https://openreview.net/forum?id=bERaNdoegnO. Policies of replayed steps are those of a new
search (Schrittwieser et al. 2021, arXiv:2104.06294). Shapes: B batch, T steps of a window, K steps
of the unrolled model, A actions, H features.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.minibatches import swap_axes
from parl.algorithms.shared.optimizers import Optimizer, clipped
from parl.algorithms.shared.search import NetworkPolicy, with_random_moves
from parl.core.algorithm import Algorithm
from parl.core.bound import bound
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Step, Window, descend, static
from parl.planning.gumbel import Node, Search, gumbel_search
from parl.planning.latent import latent_model


class MuZeroState(struct.PyTreeNode):
    """The learned state."""

    net: Net  # params: {"representation": ..., "dynamics": ..., "prediction": ...}
    target: Params  # moves slowly towards them


class Targets(NamedTuple):
    """What the model is to predict at steps 0 .. K of a window, [K + 1, B, ...]."""

    policy: Array  # [K + 1, B, A]
    value: Array  # [K + 1, B]
    reward: Array  # [K + 1, B] of the step's action
    inside: Array  # [K + 1, B] bool, whether the step is of the window's first episode
    known: Array  # [K + 1, B] bool, or lies beyond its end: then all that follows is worth 0


class MuZero(Algorithm):
    """Learns a model to search in, and what the search finds; batches are Windows [B, T, ...]."""

    representation: Model = static(default=None)  # obs -> latent [..., H]
    dynamics: Model = static(default=None)  # (latent, action) -> (latent, reward logits)
    prediction: Model = static(default=None)  # latent -> (Categorical, value logits)
    optimizer: Optimizer = static(default=bound(optax.adamw, weight_decay=1e-4))
    simulations: int = static(default=16)  # of a search while learning, and of replayed steps
    eval_simulations: int = static(default=32)  # of a greedy action
    considered: int = static(default=16)  # actions that are tried at the root at most
    unroll: int = static(default=5)  # K
    horizon: int = static(default=5)  # steps of the returns
    value_min: float = static(default=-1_000.0)  # of returns and rewards that are represented
    value_max: float = static(default=1_000.0)
    learning_rate: float = 1e-3
    gamma: float = 0.997
    least_range: float = 1.0  # of the values that a search tells apart in full
    random_moves: float = 0.2  # share of uniformly drawn actions while learning
    tau: float = 0.01
    value_cost: float = 0.25
    max_grad_norm: float = 10.0

    @property
    def tolerates_lag(self) -> bool:
        return True

    @property
    def network(self) -> "Network":
        return Network(self.representation, self.prediction)

    @property
    def transformation(self) -> optax.GradientTransformation:
        """The optimiser."""
        return clipped(self.optimizer(self.learning_rate), self.max_grad_norm)

    def init(self, key: Array, spec: EnvSpec) -> MuZeroState:
        keys = jax.random.split(key, 3)
        action: Any = spec.action
        representation = self.representation.init(keys[0], spec.obs)
        latent = self.representation.apply(representation, spec.obs)
        params = {
            "representation": representation,
            "dynamics": self.dynamics.init(keys[1], latent, action),
            "prediction": self.prediction.init(keys[2], latent),
        }
        target = jax.tree.map(jnp.copy, params)
        return MuZeroState(Net(params, self.transformation.init(params)), target)

    def policy(self, state: MuZeroState) -> Params:
        return state.net.params

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        if not explore:
            found = self.search(policy, obs, key, self.eval_simulations, 0.0)
            return found.action, memory, {}
        k_search, k_random = jax.random.split(key)
        found = self.search(policy, obs, k_search, self.simulations, 1.0)
        legal = ops.legal_actions(obs)
        allowed = jnp.ones(found.policy.shape, bool) if legal is None else legal
        action, _ = with_random_moves(k_random, found.action, allowed, self.random_moves)
        return action, memory, {}

    def search(
        self, params: Params, obs: Any, key: Array, simulations: int, noise: float
    ) -> Search:
        """Searches from observations [B, ...]."""

        def dynamics(latent: Array, action: Array) -> tuple[Array, Array]:
            latent, reward = self.dynamics.apply(params["dynamics"], latent, action)
            return latent, self.number(reward)

        def prediction(latent: Array) -> tuple[Array, Array]:
            pi, value = self.prediction.apply(params["prediction"], latent)
            return pi.logits, self.number(value)

        latent, legal = self.encode(params, obs), ops.legal_actions(obs)
        return gumbel_search(
            latent_model(dynamics, prediction, self.gamma),
            Node(*prediction(latent), latent),
            key,
            simulations=simulations,
            legal=legal,
            considered=self.considered,
            noise=noise,
            least_range=self.least_range,
        )

    def encode(self, params: Params, obs: Any) -> Array:
        """The latent states [..., H] of observations."""
        return self.representation.apply(params["representation"], obs)

    def value(self, params: Params, obs: Any) -> Array:
        """Values [...] of observations."""
        latent = self.encode(params, obs)
        return self.number(self.prediction.apply(params["prediction"], latent)[1])

    def histogram(self, logits: Array) -> ops.TwoHot:
        """Predicted numbers, on the scale of `ops.rescaled`: app. F."""
        with jax.ensure_compile_time_eval():
            ends = ops.rescaled(jnp.array([self.value_min, self.value_max])).tolist()
        return ops.TwoHot(logits, *ends)

    def number(self, logits: Array) -> Array:
        """The number [...] that logits [..., bins] stand for."""
        return ops.unscaled(self.histogram(logits).mean)

    def distance(self, logits: Array, number: Array) -> Array:
        """Cross entropy [...] of logits [..., bins] with numbers [...]."""
        values, x = self.histogram(logits), ops.rescaled(number)[..., None]
        return values.loss(values.project(x, jnp.ones_like(x)))

    def update(self, state: MuZeroState, batch: Window, key: Array) -> tuple[MuZeroState, Metrics]:
        targets = jax.lax.stop_gradient(self.targets(state.target, batch, key))
        steps = swap_axes(batch.steps)
        net, metrics = descend(self.transformation, self.loss, state.net, steps, targets)
        target = optax.incremental_update(net.params, state.target, self.tau)
        return MuZeroState(net, target), metrics

    def targets(self, params: Params, batch: Window, key: Array) -> Targets:
        """Policies of new searches, and n-step returns that bootstrap from `params`' values.

        Steps after a termination have returns and rewards of 0; after a cut nothing is known.
        """
        steps, there = swap_axes((batch.steps, batch.there))  # [T, B, ...]
        inside = swap_axes(batch.one_episode)
        first = slice(self.unroll + 1)
        obs = jax.tree.map(lambda x: x[first].reshape(-1, *x.shape[2:]), steps.obs)
        found = self.search(params, obs, key, self.simulations, 1.0).policy
        policy = found.reshape(*inside[first].shape, -1)
        follows = jnp.concatenate([there[1:], jnp.zeros_like(there[:1])])
        ends, discount = steps.last | ~follows, self.gamma * steps.discount
        value = self.value(params, steps.next_obs)
        value = ops.n_step(steps.reward, discount, ends, value, self.horizon)
        over = jnp.cumsum(inside & (steps.discount == 0), 0) > 0
        zero = lambda x: jnp.where(inside, x, 0.0)[first]
        known = inside | over
        return Targets(policy, zero(value), zero(steps.reward), inside[first], known[first])

    def loss(self, params: Params, steps: Step, targets: Targets) -> tuple[Array, Metrics]:
        """Eq. 1 of windows [T, B, ...]: the unrolled model's errors, later steps weighing 1 / K.

        The gradient into the latent is halved at every step of the model: app. G.
        """
        latent = self.encode(params, jax.tree.map(lambda x: x[0], steps.obs))

        def step(latent: Array, x: tuple[Array, Targets]) -> tuple[Array, Any]:
            action, due = x
            pi, value = self.prediction.apply(params["prediction"], latent)
            latent, reward = self.dynamics.apply(params["dynamics"], latent, action)
            errors = (
                ops.masked(-(due.policy * pi.log_probs).sum(-1), due.inside),
                ops.masked(self.distance(value, due.value), due.known),
                ops.masked(self.distance(reward, due.reward), due.known),
            )
            return 0.5 * latent + jax.lax.stop_gradient(0.5 * latent), errors

        actions = steps.action[: self.unroll + 1]
        _, errors = jax.lax.scan(step, latent, (actions, targets))
        scale = jnp.full(self.unroll + 1, 1 / self.unroll).at[0].set(1.0)
        policy_loss, value_loss, reward_loss = (scale @ x.mean(-1) for x in errors)
        loss = policy_loss + self.value_cost * value_loss + reward_loss
        told = {"policy_loss": policy_loss, "value_loss": value_loss, "reward_loss": reward_loss}
        entropy = -(targets.policy * jnp.log(targets.policy + 1e-9)).sum(-1)
        return loss, told | {"search_entropy": ops.mean(entropy, targets.inside)}


class Network(NetworkPolicy):
    """MuZero's network without a search."""

    prediction: Model = static(default=None)

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        latent = self.model.apply(policy["representation"], obs)
        pi, _ = self.prediction.apply(policy["prediction"], latent)
        legal = ops.legal_actions(obs)
        pi = pi if legal is None else pi.masked(legal)
        return pi.sample(key) if explore else pi.mode(), memory, {}
