"""Several agents: who takes part, and what a step is to an agent that waits for its turn.

Axes: T time, B environments, N agents. Observations of agents are dicts with `alive` [..., N] bool
and, in turn-based games, `turn` [..., N] bool; an agent is active where both hold.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from parl.core.types import Array
from parl.ops.tree import expand_like

Scalar = float | Array


def active_agents(obs: Any) -> Any:
    """Who acts now, [..., N] bool; None for observations without agents."""
    if not isinstance(obs, dict) or "alive" not in obs:
        return None
    return obs["alive"] & obs["turn"] if "turn" in obs else obs["alive"]


def masked(x: Array, active: Array | None) -> Array:
    """x [..., N] with 0 where an agent is not active; x itself without agents."""
    return x if active is None else jnp.where(active, x, 0.0)


def mean(x: Array, active: Array | None = None) -> Array:
    """The mean [] of x [...], over active agents only; 0 where there are none."""
    if active is None:
        return x.mean()
    return masked(x, active).sum() / jnp.maximum(active.sum(), 1)


def standardize(x: Array, active: Array | None = None) -> Array:
    """x [...] of mean 0 and deviation 1, those of active agents."""
    if active is None:
        return (x - x.mean()) / (x.std() + 1e-8)
    centred = x - mean(x, active)
    return centred / (jnp.sqrt(mean(centred**2, active)) + 1e-8)


def team_reward(reward: Array, alive: Array) -> Array:
    """Individual rewards [..., N] as their sum over living agents, given to each: [..., N]."""
    total = masked(reward, alive).sum(-1, keepdims=True)
    return jnp.broadcast_to(total, reward.shape)


def mean_of_team(x: Array, active: Array) -> Array:
    """The mean [..., 1] over the active agents of x [..., N]; 0 where there are none."""
    count = active.sum(-1, keepdims=True)
    return masked(x, active).sum(-1, keepdims=True) / jnp.maximum(count, 1)


class Transitions(NamedTuple):
    """Arguments of the functions in parl/ops/returns.py, [T, ..., N] or as those allow."""

    reward: Array
    discount: Array  # gamma included
    last: Array
    value: Array
    next_value: Array
    lambda_: Scalar
    active: Any = None  # [T, ..., N] bool, which of them are to be learned from; None: all

    @property
    def arguments(self) -> tuple[Array, Array, Array, Array, Array, Scalar]:
        """All but `active`."""
        return self.reward, self.discount, self.last, self.value, self.next_value, self.lambda_


def between_turns(
    active: Array,
    known: Array,
    reward: Array,
    discount: Array,
    last: Array,
    value: Array,
    next_value: Array,
    gamma: Scalar,
    lambda_: Scalar,
) -> Transitions:
    """Transitions from one move of an agent to its next, for the estimators of returns.

    active [T, ..., N] bool; reward, value, next_value [T, ..., N]; discount (without gamma) and
    last likewise or without trailing axes; known [T, ..., N] bool: next_value means something, as
    it does where the agent is active in the next observation.

    At a step where an agent is active, its reward is the sum of what it is paid until its next
    move, undiscounted; its discount is gamma, or 0 if the game terminated meanwhile; its next value
    is that of its next move, and `last` says that none came before the episode ended or the
    sequence did, whose last next_value then stands for it. If that is not known, the transition is
    not learned from. The transitions at all other steps add nothing to an estimate and hand on what
    comes behind them. Where all are active nothing changes.
    """
    full = lambda x: jnp.broadcast_to(expand_like(x, reward), reward.shape)
    discount, last = full(discount), full(last)

    def backward(following: Any, step: Any) -> tuple[Any, Any]:
        acts_next, sound, paid, kept, worth, ended = following
        acts, known, reward, discount, last, next_value = step
        here = last | acts_next  # whatever follows belongs to another transition
        sound = jnp.where(here, known, sound)
        paid = reward + discount * jnp.where(here, 0.0, paid)
        kept = discount * jnp.where(here, 1.0, kept)
        worth = jnp.where(here, next_value, worth)
        ended = last | (~acts_next & ended)
        return (acts, sound, paid, kept, worth, ended), (sound, paid, kept, worth, ended)

    zero, no = jnp.zeros_like(reward[0]), jnp.zeros_like(last[0])
    end = no, known[-1], zero, zero + 1, next_value[-1], ~no
    steps = active, known, reward, discount, last, next_value
    sound, paid, kept, worth, ended = jax.lax.scan(backward, end, steps, reverse=True)[1]
    counts = active & (sound | (kept == 0))
    return Transitions(
        reward=jnp.where(counts, paid, 0.0),
        discount=jnp.where(counts, gamma * kept, 1.0),
        last=active & ended,
        value=value,
        next_value=jnp.where(counts, worth, value),
        lambda_=jnp.where(counts, lambda_, 1.0),
        active=counts,
    )
