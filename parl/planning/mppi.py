"""Model predictive path integral control: actions planned by sampling.

Williams et al. 2015, arXiv:1509.01149, as in TD-MPC2, Hansen et al. 2024, arXiv:2310.16828, section
3.2. Shapes: N samples, B environments, H steps of a plan, A action.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from parl.core.types import Array

Evaluate = Callable[[Array], Array]  # returns [N, B] of actions [N, B, H, A]


class Plan(NamedTuple):
    """A normal distribution over sequences of actions, and what it was fitted to last."""

    mean: Array  # [B, H, A]
    std: Array  # [B, H, A]
    elites: Array  # [E, B, H, A]
    score: Array  # [E, B] log-weights of the elites, up to a constant

    def drawn(self, key: Array) -> Array:
        """The first action [B, A] of an elite sequence, drawn by its weight."""
        index = jax.random.categorical(key, self.score, 0)
        return jnp.take_along_axis(self.elites[:, :, 0], index[None, :, None], 0)[0]


def mppi(
    evaluate: Evaluate,
    start: Array,
    key: Array,
    *,
    proposals: Array,
    samples: int = 512,
    elites: int = 64,
    iterations: int = 6,
    temperature: Any = 0.5,
    min_std: Any = 0.05,
    max_std: Any = 2.0,
) -> Plan:
    """The plan after so many iterations from the mean `start` [B, H, A], with actions in [-1, 1].

    Each draws `samples` sequences, `proposals` [M, B, H, A] among them, and fits the normal to the
    `elites` best, which weigh exp(temperature * return).
    """
    count = samples - proposals.shape[0]

    def improve(normal: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], Any]:
        mean, std = normal
        noise = jax.random.normal(key, (count, *start.shape))
        drawn = jnp.clip(mean + std * noise, -1.0, 1.0)
        actions = jnp.concatenate([drawn, proposals])  # [N, B, H, A]
        returns = jnp.nan_to_num(evaluate(actions))
        best, index = jax.lax.top_k(returns.T, elites)  # [B, E]
        chosen = jnp.take_along_axis(actions, index.T[:, :, None, None], 0)  # [E, B, H, A]
        score = temperature * best.T  # [E, B]
        weight = jax.nn.softmax(score, 0)[:, :, None, None]
        mean = (weight * chosen).sum(0)
        std = jnp.sqrt((weight * (chosen - mean) ** 2).sum(0))
        return (mean, jnp.clip(std, min_std, max_std)), (chosen, score)

    first = start, jnp.full_like(start, max_std)
    normal, fitted = jax.lax.scan(improve, first, jax.random.split(key, iterations))
    return Plan(*normal, *jax.tree.map(lambda x: x[-1], fitted))


def following(mean: Array) -> Array:
    """The mean [B, H, A] that the next step starts from: one step on, and 0 at its end."""
    return jnp.concatenate([mean[:, 1:], jnp.zeros_like(mean[:, :1])], 1)
