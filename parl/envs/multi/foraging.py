"""Level-based foraging (Albrecht and Ramamoorthy, 2013; rules of lbforaging's v3)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.spec import Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, Canvas, grid
from parl.envs.team import team_spec

STEPS = np.array(
    [[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]]
)  # [A, 2] stay, N, S, W, E, load
LOAD = 5
MAX_PLAYER_LEVEL = 2
MOST = 1_000  # cells in a row, players and foods
UNSEEN = np.array([-1, -1, 0], np.float32)  # row, column and level of an absent food or player


class ForagingState(struct.PyTreeNode):
    """Positions and levels; foods are sorted by cell."""

    position: Array  # [N, 2] int32 row and column
    level: Array  # [N] int32
    food: Array  # [F, 2] int32
    food_level: Array  # [F] int32, 0 once it is eaten
    total: Array  # [] int32, the levels of all food at the start
    time: Array  # [] int32, steps since the reset


@dataclass(frozen=True)
class Foraging:
    """Players load adjacent food; the sum of the loaders' levels must reach the food's level.

    A food's reward is its share of all food levels, split in proportion to the loaders' levels, so
    that all food together gives 1. With `coop` every food needs three players (or all of fewer)
    together. Players that choose the same cell stay where they are. Players see up to `sight` cells
    far, or everything if None.
    """

    size: int = 8
    players: int = 2
    foods: int = 2
    coop: bool = False
    sight: int | None = None
    max_steps: int = 50

    def __post_init__(self) -> None:
        for name in ("size", "players", "foods"):
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} must be from 1 to {MOST}, not {getattr(self, name)}")
        if self.players > self.size**2:
            raise ValueError(f"{self.players} players do not fit on {self.size} x {self.size}")

    @property
    def id(self) -> str:
        """The id of this variant, as lbforaging names it."""
        sight = "" if self.sight is None else f"-{self.sight}s"
        size = f"{self.size}x{self.size}"
        return f"jax:foraging{sight}-{size}-{self.players}p-{self.foods}f{'-coop' * self.coop}"

    @property
    def spec(self) -> EnvSpec:
        view = 3 * (self.foods + self.players)
        return team_spec(
            self.id,
            [f"agent_{i}" for i in range(self.players)],
            (view,) * self.players,
            (Discrete(len(STEPS)),) * self.players,
            view * self.players,
            max_steps=self.max_steps,
        )

    def reset(self, key: Array) -> tuple[ForagingState, Any]:
        k_place, k_level, k_food, k_food_level = jax.random.split(key, 4)
        level = jax.random.randint(k_level, (self.players,), 1, MAX_PLAYER_LEVEL + 1)
        cells = jax.random.permutation(k_place, self.size**2)[: self.players]
        position = jnp.stack(jnp.divmod(cells, self.size), 1)
        food, found = self.spread(k_food, position)
        hardest = jnp.sort(level)[:3].sum()
        lowest = hardest if self.coop else 1
        food_level = jax.random.randint(k_food_level, (self.foods,), lowest, hardest + 1)
        food_level = jnp.where(found, food_level, 0)
        state = ForagingState(position, level, food, food_level, food_level.sum(), jnp.int32(0))
        return state, self.observe(state)

    def spread(self, key: Array, position: Array) -> tuple[Array, Array]:
        """(cells [F, 2] for food, off the edge and not adjacent; whether each was found [F])."""
        grid = np.stack(np.divmod(np.arange(self.size**2), self.size), 1)  # [C, 2]
        inner = ((grid > 0) & (grid < self.size - 1)).all(1)
        free = inner & ~same(grid, position).any(1)  # [C]
        cells, found = [], []
        for noise in jax.random.uniform(key, (self.foods, self.size**2)):
            cell = jnp.where(free, noise, -1.0).argmax()
            cells.append(cell)
            found.append(free.any())
            free &= ~crowded(jnp.abs(grid - jnp.asarray(grid)[cell]))
        chosen = jnp.stack(cells)
        order = jnp.argsort(chosen)
        return jnp.asarray(grid)[chosen[order]], jnp.stack(found)[order]

    def step(
        self, state: ForagingState, action: Array, key: Array
    ) -> tuple[ForagingState, Any, Array, Array, Array]:
        there = state.food_level > 0  # [F]
        near = (jnp.abs(state.position[:, None] - state.food).sum(-1) == 1) & there  # [N, F]
        loads = (action == LOAD) & near.any(1)  # [N]

        goal = state.position + jnp.asarray(STEPS)[action]
        blocked = (goal < 0).any(1) | (goal >= self.size).any(1)
        blocked |= (same(goal, state.food) & there).any(1)
        goal = jnp.where(blocked[:, None], state.position, goal)
        contested = same(goal, goal).sum(1) > 1
        position = jnp.where(contested[:, None], state.position, goal)

        hands = near & loads[:, None]  # [N, F] a player is never next to two foods
        strength = (hands * state.level[:, None]).sum(0)  # [F]
        eaten = there & (strength > 0) & (strength >= state.food_level)
        worth = jnp.where(eaten, state.food_level / jnp.maximum(strength * state.total, 1), 0.0)
        reward = (hands * state.level[:, None] * worth).sum(1)

        food_level, time = jnp.where(eaten, 0, state.food_level), state.time + 1
        state = state.replace(position=position, food_level=food_level, time=time)
        over = (food_level == 0).all()
        return state, self.observe(state), reward, over, time >= self.max_steps

    def observe(self, state: ForagingState) -> dict[str, Array]:
        """Views: row, column and level of visible foods, of the player, and of visible others.

        Rows and columns are relative to the corner of the player's field of view.
        """
        sight, count = self.sight or self.size, self.players
        corner = state.position - jnp.minimum(sight, state.position)  # [N, 2]
        order = np.array([[i, *(j for j in range(count) if j != i)] for i in range(count)])
        foods = state.food - corner[:, None]  # [N, F, 2]
        others = state.position[order] - corner[:, None]  # [N, N, 2], oneself first
        far = jnp.abs(state.food - state.position[:, None]).max(-1) > sight  # [N, F]
        seen = ((others >= 0) & (others <= 2 * sight)).all(-1)
        levels = jnp.broadcast_to(state.food_level, far.shape)
        listed = [
            jax.vmap(in_front)(foods, levels, ~far & (levels > 0)),
            jax.vmap(in_front)(others, state.level[order], seen),
        ]
        view = jnp.concatenate([part.reshape(count, -1) for part in listed], 1)
        legal = jnp.ones((count, len(STEPS)), bool)
        alive = jnp.ones(count, bool)
        return {"view": view, "alive": alive, "legal": legal, "state": view.reshape(-1)}

    def draw(self, state: ForagingState) -> np.ndarray:
        """Players as discs and food as diamonds, with their levels."""
        canvas = Canvas(0, self.size)
        grid(canvas, self.size, self.size)
        middle = lambda place: np.array([place[1] + 0.5, self.size - place[0] - 0.5])
        corners = 0.4 * np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
        foods = zip(np.asarray(state.food), np.asarray(state.food_level), strict=True)
        for place, level in ((place, level) for place, level in foods if level > 0):
            canvas.polygon(middle(place) + corners, COLORS[3])
            canvas.text(middle(place), str(level), (255, 255, 255), 0.4)
        for place, level in zip(np.asarray(state.position), np.asarray(state.level), strict=True):
            canvas.disc(middle(place), 0.38, COLORS[0])
            canvas.text(middle(place), str(level), (255, 255, 255), 0.4)
        return canvas.picture()


def in_front(place: Array, level: Array, seen: Array) -> Array:
    """[K, 3] place and level of the visible entries, in order, padded with UNSEEN."""
    slot = jnp.cumsum(seen) - 1
    chosen = seen & (slot == np.arange(seen.shape[0])[:, None])  # [slot, K]
    things = jnp.concatenate([place, level[:, None]], 1).astype(jnp.float32)
    return jnp.where(chosen.any(1)[:, None], chosen.astype(jnp.float32) @ things, UNSEEN)


def same(some: Any, others: Any) -> Array:
    """[N, M] bool: equality of cells [N, 2] and [M, 2]."""
    return (jnp.asarray(some)[:, None] == others).all(-1)


def crowded(distance: Array) -> Array:
    """Whether a cell at a distance |rows|, |columns| [..., 2] of a food must stay empty."""
    near, straight = distance.max(-1), distance.min(-1) == 0
    return (near <= 1) | (straight & (near <= 2))
