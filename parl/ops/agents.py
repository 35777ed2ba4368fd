"""Several agents: which of them act, and the transitions of agents that die, are cut or wait.

Axes: T time, B environments, N agents. Observations of agents are dicts with `alive` [..., N] bool
and, in turn-based games, `turn` [..., N] bool; an agent is active where both hold.

`next_obs` shows what a step led to for an agent that was alive. An agent that is not alive there
has died, and nothing follows. One that is alive there but not in the next step's obs was cut, and
its return is bootstrapped from its last view. One that is alive but does not have the turn waits.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from parl.core.types import Array, Step
from parl.ops.finite import weighted
from parl.ops.tree import expand_like

Scalar = float | Array


def active_agents(obs: Any) -> Any:
    """Which agents act now, [..., N] bool; None for observations of a single agent.

    An entry `alive` that is not bool is an ordinary observation of a single agent.
    """
    if not isinstance(obs, dict) or "alive" not in obs or obs["alive"].dtype != bool:
        return None
    return obs["alive"] & obs["turn"] if "turn" in obs else obs["alive"]


def agents_cut(steps: Step) -> Array:
    """Agents whose episode was cut while it went on for others, [T, ..., N] bool.

    False at the last step of the sequence, where it is unknown.
    """
    alive, next_alive = jnp.asarray(steps.obs["alive"]), jnp.asarray(steps.next_obs["alive"])
    goes_on = ~jnp.asarray(steps.last)[:-1, ..., None]
    gone = goes_on & next_alive[:-1] & ~alive[1:]
    return jnp.concatenate([gone, jnp.zeros_like(alive[:1])])


def cut(steps: Step) -> Array:
    """Where next_obs is not the next step's obs, for all agents or any of them: [T, ...] bool."""
    if active_agents(steps.obs) is None:
        return steps.cut
    return steps.cut | agents_cut(steps).any(-1)


def masked(x: Array, active: Array | None) -> Array:
    """x [..., N] with 0 for agents that are not active; x unchanged if `active` is None."""
    return x if active is None else jnp.where(active, x, 0.0)


def mean(x: Array, active: Array | None = None) -> Array:
    """The mean [] of x [...] over active agents; 0 if there are none."""
    if active is None:
        return x.mean()
    return masked(x, active).sum() / jnp.maximum(active.sum(), 1)


def standardize(x: Array, active: Array | None = None) -> Array:
    """x [...] shifted and scaled to mean 0 and standard deviation 1 over active agents."""
    if active is None:
        return (x - x.mean()) / (x.std() + 1e-8)
    centred = x - mean(x, active)
    return centred / (jnp.sqrt(mean(centred**2, active)) + 1e-8)


def team_reward(reward: Array, alive: Array) -> Array:
    """The sum of rewards [..., N] over living agents, repeated for each agent: [..., N]."""
    total = masked(reward, alive).sum(-1, keepdims=True)
    return jnp.broadcast_to(total, reward.shape)


def mean_of_team(x: Array, active: Array) -> Array:
    """The mean [..., 1] of x [..., N] over active agents; 0 if there are none."""
    count = active.sum(-1, keepdims=True)
    return masked(x, active).sum(-1, keepdims=True) / jnp.maximum(count, 1)


class Transitions(NamedTuple):
    """Arguments of the functions in parl/ops/returns.py, [T, ..., N] or any shape they allow."""

    reward: Array
    discount: Array  # gamma included
    last: Array
    value: Array
    next_value: Array
    lambda_: Scalar
    active: Any = None  # [T, ..., N] bool, the transitions to learn from; None: all

    @property
    def arguments(self) -> tuple[Array, Array, Array, Array, Array, Scalar]:
        """All fields except `active`."""
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
    last likewise or without trailing axes; next_value_known [T, ..., N] bool: next_value is
    meaningful, as it is where the agent is active in the next observation.

    At a step where an agent is active, the transition spans the steps until its next move. Its
    reward is the undiscounted sum of the rewards in between. Its discount is gamma, or 0 if the
    episode terminated meanwhile. Its next value is the one before its next move. `last` is true if
    the episode or the sequence ended before that move; the next value is then the one at that end,
    and if it is not known, the transition is excluded from learning. Transitions at all other steps
    are neutral: they pass later estimates through unchanged. If all agents are always active,
    nothing changes.
    """
    if not len(reward):
        raise ValueError(f"reward {reward.shape} must have at least one step.")
    full = lambda x: jnp.broadcast_to(expand_like(x, reward), reward.shape)
    discount, last = full(discount), full(last)

    def backward(following: Any, step: Any) -> tuple[Any, Any]:
        acts_next, valid, paid, discounted, value_after, ended = following
        acts, next_value_known, reward, discount, last, next_value = step
        ends_transition = last | acts_next  # later steps belong to the next transition
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
    """Where an agent's last view may be valued although it does not act, [T, ..., N] bool.

    True where its episode ends. Also true at the end of a sequence with no more steps than agents,
    which is too short to hold two moves of an agent that takes turns with all others.
    """
    alive = jnp.asarray(steps.obs["alive"])
    ends = expand_like(steps.last, alive) | agents_cut(steps)
    return ends.at[-1].set(True) if alive.shape[0] <= alive.shape[-1] else ends


def own_transitions(
    steps: Step, value: Array, next_value: Array, gamma: Scalar, lambda_: Scalar
) -> Transitions:
    """Transitions [T, ..., N] from move to move of agents with individual rewards.

    The discount of an agent that dies is 0. An agent that is cut, alone or with all others, is
    bootstrapped from its last view.
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
    """Transitions [T, ..., N] of the members of a team, each with the team's total reward.

    The next value of an agent that does not act next is the mean over those that do. After an
    agent's death its column holds the team's transitions, so that later rewards count for its moves
    as much as for those of the others. The discount is 0 if no agent is left.
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
    """Agents over which the value of a next observation is averaged for a team, [..., N] bool.

    These are the agents that act, or all living ones if none has the turn, as when a game was cut.
    """
    active: Any = active_agents(obs)
    return jnp.where(active.any(-1, keepdims=True), active, obs["alive"])
