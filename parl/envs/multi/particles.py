"""The physics of the multi-agent particle environments (Lowe et al., 2017, arXiv:1706.02275).

Discs in the plane are pushed by their agents and by each other. As in mpe2, positions move by the
old velocities, velocities are damped before forces are added, and contacts are soft. All masses are
1. Axes: N agents, E entities that collide, L landmarks.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.spec import Box, Discrete
from parl.core.types import Array
from parl.envs.drawing import Canvas, Color
from parl.envs.team import own_actions

TIME_STEP = 0.1
DAMPING = 0.25
CONTACT_FORCE = 100.0
CONTACT_MARGIN = 1e-3
SENSITIVITY = 5.0  # force of an action, unless an environment defines another acceleration
MOVES = 5  # stay, left, right, down, up


class ParticleState(struct.PyTreeNode):
    """Positions and velocities of agents and landmarks."""

    position: Array  # [N, 2]
    velocity: Array  # [N, 2]
    landmarks: Array  # [L, 2], they never move
    time: Array  # [] int32, steps since the reset


def move_space(continuous: bool) -> Discrete | Box:
    """The actions of an agent that moves: one of MOVES, or how much of each in [-1, 1]."""
    return Box((MOVES,), low=-1.0, high=1.0) if continuous else Discrete(MOVES)


def push(action: Array, continuous: bool) -> Array:
    """Directions [N, 2] from actions [N] int, or [N, >= MOVES] in [-1, 1] (mpe2: in [0, 1])."""
    if continuous:
        pressed = (jnp.clip(action, -1, 1) + 1) / 2
        x, y = pressed[:, 2] - pressed[:, 1], pressed[:, 4] - pressed[:, 3]
        return jnp.stack([x, y], -1)
    sign = lambda down, up: (action == up).astype(jnp.float32) - (action == down)
    return jnp.stack([sign(1, 2), sign(3, 4)], -1)


def scatter(key: Array, agents: int, landmarks: int, reach: float = 1.0) -> ParticleState:
    """Agents uniformly in [-1, 1]^2 and at rest, landmarks in [-reach, reach]^2."""
    places = jax.random.uniform(key, (agents + landmarks, 2), minval=-1.0, maxval=1.0)
    position, fixed = places[:agents], reach * places[agents:]
    return ParticleState(position, jnp.zeros_like(position), fixed, jnp.int32(0))


def move(state: ParticleState, force: Array, max_speed: np.ndarray | None = None) -> ParticleState:
    """One time step under forces [N, 2]; `max_speed` [N] limits velocities."""
    position = state.position + TIME_STEP * state.velocity
    velocity = (1 - DAMPING) * state.velocity + TIME_STEP * force
    if max_speed is not None:
        speed = jnp.sqrt(jnp.square(velocity).sum(-1))  # [N]
        slower = jnp.where(speed > max_speed, max_speed / jnp.maximum(speed, 1e-12), 1.0)
        velocity = velocity * slower[:, None]
    return state.replace(position=position, velocity=velocity, time=state.time + 1)


def offsets(origin: Array, target: Array) -> Array:
    """[N, M, 2]: from each of origin [N, 2] to each of target [M, 2]."""
    return target[None] - origin[:, None]


def lengths(offset: Array) -> Array:
    """Euclidean lengths [...] of offsets [..., 2]."""
    return jnp.sqrt(jnp.square(offset).sum(-1))


def contact_force(position: Array, others: Array, reach: np.ndarray) -> Array:
    """Forces [N, 2] on agents at [N, 2] from entities at [E, 2]; the first N are the agents.

    Two entities closer than `reach` [N, E], the sum of their radii, repel each other by
    CONTACT_FORCE per unit of softened penetration, margin * softplus(-x / margin).
    """
    away = -offsets(position, others)  # [N, E, 2]
    distance = lengths(away) + np.eye(*reach.shape, dtype=np.float32)  # no entity pushes itself
    depth = CONTACT_MARGIN * jax.nn.softplus((reach - distance) / CONTACT_MARGIN)
    return ((CONTACT_FORCE * depth / distance)[..., None] * away).sum(1)


def touching(offset: Array, reach: np.ndarray) -> Array:
    """Whether discs at these offsets [N, M, 2] overlap: [N, M] bool."""
    return lengths(offset) < reach


def of_others(pairs: Array) -> Array:
    """[N, N, ...] without its diagonal: [N, N - 1, ...], in order."""
    count = pairs.shape[0]
    rows = pairs.reshape(count * count, *pairs.shape[2:])[1:]
    rows = rows.reshape(count - 1, count + 1, *pairs.shape[2:])[:, :-1]
    return rows.reshape(count, count - 1, *pairs.shape[2:])


def flat(parts: Array) -> Array:
    """[N, M, 2] as [N, 2 M]."""
    return parts.reshape(parts.shape[0], -1)


def observation(view: Array, state: Array, actions: tuple[Discrete | Box, ...]) -> dict[str, Array]:
    """The observation of all agents: all are alive, and all of an agent's own actions are legal."""
    obs = {"view": view, "alive": jnp.ones(len(actions), bool), "state": state}
    if isinstance(actions[0], Discrete):
        obs["legal"] = jnp.array(own_actions(actions))
    return obs


def draw(
    state: ParticleState, radius: np.ndarray, agents: Sequence[Color], landmarks: Sequence[Color]
) -> np.ndarray:
    """Agents as discs before landmarks; `radius` [E] of agents, then of landmarks."""
    canvas = Canvas(-1.4, 1.4)
    places = np.concatenate([np.asarray(state.landmarks), np.asarray(state.position)])
    sizes = np.concatenate([radius[len(agents) :], radius[: len(agents)]])
    for place, size, color in zip(places, sizes, [*landmarks, *agents], strict=True):
        canvas.disc(place, size, color)
    return canvas.picture()
