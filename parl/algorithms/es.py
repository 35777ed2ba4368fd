"""Evolution strategies.

Salimans et al. 2017, "Evolution Strategies as a Scalable Alternative to Reinforcement Learning",
arXiv:1703.03864. A rollout is a generation: each of its B columns plays an episode with its own
parameters. Shapes: T time, B members of the population, P parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.flatten_util import ravel_pytree

from parl import ops
from parl.algorithms.shared.optimizers import Optimizer
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, Step, static
from parl.models import modes


class ESState(struct.PyTreeNode):
    """The learned state of ES, and the noise table that perturbations are taken from."""

    net: Net
    noise: Array  # [noise_size + P] standard normal, drawn once: section 2.1


class ESPolicy(struct.PyTreeNode):
    """What acting needs."""

    params: Params
    noise: Array  # [noise_size + P]


class ES(Algorithm):
    """Gradient ascent on the smoothed return, estimated from perturbed parameters.

    Member b plays with theta + sigma * sign_b * noise[start_b : start_b + P]. Members 2i and 2i + 1
    share `start` and have opposite signs (mirrored sampling), if both act in one call of `act`.
    """

    actor: Model = static(default=None)  # obs -> distribution; its mode is the action
    optimizer: Optimizer = static(default=optax.adamw)
    noise_size: int = static(default=1_000_000)  # possible start positions of a perturbation
    sigma: float = 0.02  # standard deviation of the perturbations
    learning_rate: float = 0.01
    weight_decay: float = 0.005  # decoupled: multiplied by the learning rate at each update

    @property
    def transformation(self) -> optax.GradientTransformation:
        """Adam with decoupled weight decay."""
        return self.optimizer(self.learning_rate, weight_decay=self.weight_decay)

    @property
    def by_gradients(self) -> bool:
        return False  # but by the ranks of returns among all members

    @property
    def episodic(self) -> bool:
        return True

    def init(self, key: Array, spec: EnvSpec) -> ESState:
        k_actor, k_noise = jax.random.split(key)
        params = modes.init(self.actor, k_actor, spec.obs)
        size = self.noise_size + ravel_pytree(params)[0].size
        noise = jax.random.normal(k_noise, (size,))
        return ESState(Net(params, self.transformation.init(params)), noise)

    def policy(self, state: ESState) -> ESPolicy:
        return ESPolicy(state.net.params, state.noise)

    def memory(self, batch_shape: tuple[int, ...]) -> dict[str, Array]:
        """Start position of a member's perturbation and its sign: 1 or -1, 0 until it is drawn."""
        return {"start": jnp.zeros(batch_shape, jnp.int32), "sign": jnp.zeros(batch_shape)}

    def act(
        self, policy: ESPolicy, obs: Any, memory: dict[str, Array], key: Array, explore: bool
    ) -> tuple[Array, dict[str, Array], dict[str, Any]]:
        if not explore:
            return self.actor.apply(policy.params, obs).mode(), memory, {}
        memory = ops.where_first(memory["sign"] == 0, self.draw(key, len(memory["sign"])), memory)
        theta, unravel = ravel_pytree(policy.params)
        members = theta + self.sigma * perturbations(policy.noise, memory, theta.size)
        play = lambda theta, obs: self.actor.apply(unravel(theta), obs).mode()
        action = jax.vmap(play)(members, jax.tree.map(lambda x: x[:, None], obs))  # [B, 1, *A]
        return action[:, 0], memory, memory

    def draw(self, key: Array, size: int) -> dict[str, Array]:
        """Perturbations of `size` members, in mirrored pairs."""
        member = jnp.arange(size)
        start = jax.random.randint(key, (size // 2 + 1,), 0, self.noise_size)
        return {"start": start[member // 2], "sign": 1.0 - 2.0 * (member % 2)}

    def update(self, state: ESState, batch: Rollout, key: Array) -> tuple[ESState, Metrics]:
        theta, unravel = ravel_pytree(state.net.params)
        drawn = jax.tree.map(lambda x: x[0], batch.steps.extras)
        returns = first_returns(batch.steps)
        gradient = self.gradient(returns, perturbations(state.noise, drawn, theta.size))
        updates, opt = self.transformation.update(
            unravel(-gradient), state.net.opt, state.net.params
        )
        net = Net(optax.apply_updates(state.net.params, updates), opt)
        return state.replace(net=net), {
            "population_mean": returns.mean(),
            "population_max": returns.max(),
            "gradient_norm": jnp.linalg.norm(gradient),
            "update_norm": optax.global_norm(updates),
        }

    def gradient(self, returns: Array, noise: Array) -> Array:
        """The gradient [P] of the smoothed return: sum_b F_b noise_b / (B sigma), algorithm 1.

        F are the centred ranks of `returns` [B], noise [B, P] the signed perturbations.
        """
        return centred_ranks(returns) @ noise / (len(returns) * self.sigma)


def perturbations(noise: Array, drawn: dict[str, Array], size: int) -> Array:
    """The signed perturbations, slices of `noise`, [B, size]."""
    cut = lambda start: jax.lax.dynamic_slice(noise, (start,), (size,))
    return drawn["sign"][:, None] * jax.vmap(cut)(drawn["start"])


def first_returns(steps: Step) -> Array:
    """[B] undiscounted return of each column's first episode; later ones are ignored."""
    over = jnp.cumsum(steps.last, 0) - steps.last  # [T, B] episodes that ended before
    return jnp.where(over == 0, steps.reward, 0.0).sum(0)


def centred_ranks(x: Array) -> Array:
    """Ranks of x [B] spread evenly from -1/2 to 1/2: fitness shaping, section 2.1.

    Equal numbers share the mean of their ranks, so the gradient is 0 if all are equal.
    """
    wins = jnp.sign(x[:, None] - x[None, :]).sum(1)  # number below minus number above
    return wins / max(2 * (len(x) - 1), 1)
