"""Several agents: who takes part, and what a step is to an agent that dies, is cut or waits.

Axes: T time, B environments, N agents. Observations of agents are dicts with `alive` [..., N] bool
and, in turn-based games, `turn` [..., N] bool; an agent is active where both hold.

What a step leads to for an agent that was alive is told by `next_obs`: who is not alive there is
dead, and nothing follows. Who is alive there but not in the obs to come was cut: its return goes on
behind its last view. Who is alive but has not the turn waits.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from parl.core.types import Array, Step
from parl.ops.finite import weighted
from parl.ops.tree import expand_like

Scalar = float | Array


def active_agents(obs: Any) -> Any:
    """Who acts now, [..., N] bool; None for observations without agents.

    An entry `alive` that is not bool is part of what a single agent sees.
    """
    if not isinstance(obs, dict) or "alive" not in obs or obs["alive"].dtype != bool:
        return None
    return obs["alive"] & obs["turn"] if "turn" in obs else obs["alive"]


def agents_cut(steps: Step) -> Array:
    """For whom the episode was cut short while it went on for others, [T, ..., N] bool.

    Nothing is told of the last step of the sequence: nobody's.
    """
    alive, next_alive = jnp.asarray(steps.obs["alive"]), jnp.asarray(steps.next_obs["alive"])
    goes_on = ~jnp.asarray(steps.last)[:-1, ..., None]
    gone = goes_on & next_alive[:-1] & ~alive[1:]
    return jnp.concatenate([gone, jnp.zeros_like(alive[:1])])


def cut(steps: Step) -> Array:
    """Where next_obs [T, ...] is not the obs to come, for all or for an agent: [T, ...] bool."""
    if active_agents(steps.obs) is None:
        return steps.cut
    return steps.cut | agents_cut(steps).any(-1)


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
    next_value_known: Array,
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
    last likewise or without trailing axes; next_value_known [T, ..., N] bool: next_value means
    something, as it does where the agent is active in the next observation.

    At a step where an agent is active, its reward is the sum of what it is paid until its next
    move, undiscounted; its discount is gamma, or 0 if the game terminated meanwhile; its next value
    is that of its next move, and `last` says that none came before the episode ended or the
    sequence did, whose last next_value then stands for it. If that is not known, the transition is
    not learned from. The transitions at all other steps add nothing to an estimate and hand on what
    comes behind them. Where all are active nothing changes.
    """
    if not len(reward):
        raise ValueError(f"reward {reward.shape} must have at least one step.")
    full = lambda x: jnp.broadcast_to(expand_like(x, reward), reward.shape)
    discount, last = full(discount), full(last)

    def backward(following: Any, step: Any) -> tuple[Any, Any]:
        acts_next, valid, paid, discounted, value_after, ended = following
        acts, next_value_known, reward, discount, last, next_value = step
        ends_transition = last | acts_next  # whatever follows belongs to another transition
        valid = jnp.where(ends_transition, next_value_known, valid)
        paid = reward + weighted(discount, jnp.where(ends_transition, 0.0, paid))
        discounted = discount * jnp.where(ends_transition, 1.0, discounted)
        value_after = jnp.where(ends_transition, next_value, value_after)
        ended = last | (~acts_next & ended)
        told = valid, paid, discounted, value_after, ended
        return (acts, *told), told

    zero, no = jnp.zeros_like(reward[0]), jnp.zeros_like(last[0])
    end = no, next_value_known[-1], zero, zero + 1, next_value[-1], ~no
    steps = active, next_value_known, reward, discount, last, next_value
    _, told = jax.lax.scan(backward, end, steps, reverse=True)
    valid, paid, discounted, value_after, ended = told
    counts = active & (valid | (discounted == 0))
    return Transitions(
        reward=jnp.where(counts, paid, 0.0),
        discount=jnp.where(counts, gamma * discounted, 1.0),
        last=active & ended,
        value=value,
        next_value=jnp.where(counts, value_after, value),
        lambda_=jnp.where(counts, lambda_, 1.0),
        active=counts,
    )


def closes(steps: Step) -> Array:
    """Where an agent's last view tells its value though it does not act, [T, ..., N] bool.

    Where its episode ends; and at the end of a sequence of no more steps than agents, which would
    not hold two moves of one that takes turns with all others.
    """
    alive = jnp.asarray(steps.obs["alive"])
    ends = expand_like(steps.last, alive) | agents_cut(steps)
    return ends.at[-1].set(True) if alive.shape[0] <= alive.shape[-1] else ends


def own_transitions(
    steps: Step, value: Array, next_value: Array, gamma: Scalar, lambda_: Scalar
) -> Transitions:
    """Transitions [T, ..., N] of agents that are each paid their own, from move to move.

    The discount of who dies is 0. Who is cut, alone or with all, is valued at its last view.
    """
    alive, next_alive = (jnp.asarray(obs["alive"]) for obs in (steps.obs, steps.next_obs))
    last = expand_like(steps.last, alive) | agents_cut(steps)
    active, acts_next = active_agents(steps.obs), active_agents(steps.next_obs)
    next_value_known = acts_next | (next_alive & closes(steps))
    discount = expand_like(steps.discount, alive) * next_alive
    tail = last, value, next_value, gamma, lambda_
    return between_turns(active, next_value_known, steps.reward, discount, *tail)


def member_transitions(
    steps: Step, value: Array, next_value: Array, gamma: Scalar, lambda_: Scalar
) -> Transitions:
    """Transitions [T, ..., N] of a team's members, each paid what all are paid together.

    The value of who does not act next is the mean of those who do. Who is dead goes with the team:
    its place holds the team's transitions, so that what comes later counts as much for its moves as
    for those of the others. The discount is 0 where nobody is left.
    """
    alive, next_alive = (jnp.asarray(obs["alive"]) for obs in (steps.obs, steps.next_obs))
    active: Any = active_agents(steps.obs)
    acts_next, movers = active_agents(steps.next_obs), next_movers(steps.next_obs)
    acts = jnp.where(alive, active, active.any(-1, keepdims=True))
    value = jnp.where(alive, value, mean_of_team(value, active))
    next_value = jnp.where(acts_next, next_value, mean_of_team(next_value, movers))
    left = next_alive.any(-1, keepdims=True)
    next_value_known = acts_next.any(-1, keepdims=True) | (left & closes(steps))
    reward = team_reward(steps.reward, alive)
    discount = expand_like(steps.discount, alive) * left
    last = expand_like(steps.last, alive) | agents_cut(steps)
    tail = last, value, next_value, gamma, lambda_
    moves = between_turns(acts, next_value_known, reward, discount, *tail)
    return moves._replace(active=moves.active & active)


def next_movers(obs: Any) -> Array:
    """Whose values tell what a next observation is worth to a team, [..., N] bool.

    Those who act; all that are alive where nobody has the turn, as where a game was cut short.
    """
    active: Any = active_agents(obs)
    return jnp.where(active.any(-1, keepdims=True), active, obs["alive"])
