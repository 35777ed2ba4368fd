"""Gumbel AlphaZero: a network learns the policy and the outcome of games that search plays.

Danihelka et al. 2022, https://openreview.net/forum?id=bERaNdoegnO, with the rules of the game in
place of a learned model: Silver et al. 2018, doi:10.1126/science.aar6404. Both players are the
learner. Shapes: T time, B environments or batch, N agents, A actions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.optimizers import Optimizer, clipped
from parl.algorithms.shared.search import NetworkPolicy, with_random_moves
from parl.core.algorithm import Algorithm
from parl.core.bound import bound
from parl.core.model import Model
from parl.core.simulator import Simulator
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, descend, static
from parl.planning.games import (
    game_model,
    joint_action,
    mover_of,
    of_agent,
    root_of,
    seen_by_mover,
)
from parl.planning.gumbel import Search, gumbel_search


class AZState(struct.PyTreeNode):
    """The learned state."""

    net: Net


class AZ(Algorithm):
    """Learns what a search in `simulator` finds; batches are moves [B, ...], see `items`."""

    model: Model = static(default=None)  # the mover's obs -> (Categorical, values [...])
    simulator: Simulator = static(default=None)
    optimizer: Optimizer = static(default=bound(optax.adamw, weight_decay=1e-4))
    simulations: int = static(default=32)  # of the search before each move while learning
    eval_simulations: int = static(default=64)  # of a greedy move
    considered: int = static(default=16)  # moves that are tried at the root at most
    learning_rate: float = 1e-3
    gamma: float = 1.0
    lambda_: float = 1.0
    value_cost: float = 1.0
    max_grad_norm: float = 10.0
    random_moves: float = 0.1  # share of uniformly drawn moves while learning

    @property
    def tolerates_lag(self) -> bool:
        return True

    @property
    def network(self) -> "Network":
        return Network(self.model)

    @property
    def transformation(self) -> optax.GradientTransformation:
        """The optimiser."""
        return clipped(self.optimizer(self.learning_rate), self.max_grad_norm)

    def init(self, key: Array, spec: EnvSpec) -> AZState:
        params = self.model.init(key, seen_by_mover(spec.obs))
        return AZState(Net(params, self.transformation.init(params)))

    def policy(self, state: AZState) -> Params:
        return state.net.params

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        """Adds extras `search_policy` [B, A], `search_value` [B] and `random` [B] bool."""
        k_search, k_random = jax.random.split(key)
        found = self.search(policy, obs, k_search, explore)
        if not explore:
            return joint_action(obs, found.action), memory, {}
        legal = seen_by_mover(obs)["legal"]
        action, random = with_random_moves(k_random, found.action, legal, self.random_moves)
        told = {"search_policy": found.policy, "search_value": found.value, "random": random}
        return joint_action(obs, action), memory, told

    def search(self, policy: Params, obs: Any, key: Array, explore: bool) -> Search:
        """Searches from what the mover sees; without `explore` it takes no chances."""

        def network(seen: Any) -> tuple[Array, Array]:
            pi, value = self.model.apply(policy, seen)
            return pi.logits, value

        return gumbel_search(
            game_model(self.simulator, network, self.gamma),
            root_of(self.simulator, network, obs),
            key,
            simulations=self.simulations if explore else self.eval_simulations,
            legal=seen_by_mover(obs)["legal"],
            considered=self.considered,
            noise=1.0 if explore else 0.0,
            least_range=2.0,  # from a loss to a win
        )

    def items(self, rollout: Rollout) -> dict[str, Array]:
        """One item per move, [T * B, ...]: what the mover saw, its search policy and `outcome`.

        The outcome is the lambda return of the mover. It bootstraps from the search's values of
        later positions, and of the last one where the rollout ends before the game. A random move
        tells nothing of a position's value: the outcome before it is that search's value.
        """
        steps = rollout.steps
        mover, count = mover_of(steps.obs), steps.reward.shape[-1]
        value = jnp.where(jnp.arange(count) == mover[..., None], 1.0, -1.0)
        value = value * steps.extras["search_value"][..., None]  # [T, B, N]
        random, last = steps.extras["random"], steps.last
        here = (random | last).at[-1].set(True)  # no later position to bootstrap from
        following = jnp.where(here[..., None], value, jnp.roll(value, -1, 0))
        reward = jnp.where(random[..., None], 0.0, steps.reward)
        discount = jnp.where(random, 1.0, self.gamma * steps.discount)
        outcome = ops.lambda_returns(reward, discount, last | random, following, self.lambda_)
        items = seen_by_mover(steps.obs) | {
            "search_policy": steps.extras["search_policy"],
            "outcome": of_agent(outcome, mover),
            "active": ops.active_agents(steps.obs).any(-1),
        }
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), items)

    def update(
        self, state: AZState, batch: dict[str, Array], key: Array
    ) -> tuple[AZState, Metrics]:
        net, metrics = descend(self.transformation, self.loss, state.net, batch)
        return AZState(net), metrics

    def loss(self, params: Params, batch: dict[str, Array]) -> tuple[Array, Metrics]:
        """Cross entropy with the search's policy, and half the squared error of the outcome."""
        pi, value = self.model.apply(params, {n: batch[n] for n in ("view", "legal")})
        active, target = batch["active"], batch["search_policy"]
        policy_loss = -ops.mean((target * pi.log_probs).sum(-1), active)
        value_loss = 0.5 * ops.mean((value - batch["outcome"]) ** 2, active)
        loss = policy_loss + self.value_cost * value_loss
        entropy = -ops.mean((target * jnp.log(target + 1e-9)).sum(-1), active)
        told = {"policy_loss": policy_loss, "value_loss": value_loss, "search_entropy": entropy}
        return loss, told


class Network(NetworkPolicy):
    """AZ's network without a search; an agent that waits has one legal action."""

    def act(
        self, policy: Params, obs: Any, memory: Any, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        pi, _ = self.model.apply(policy, {name: obs[name] for name in ("view", "legal")})
        return pi.sample(key) if explore else pi.mode(), memory, {}
