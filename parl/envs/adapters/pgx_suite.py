"""Pgx' games as teams with legal moves: `pgx:connect_four`, `pgx:othello`, `pgx:2048`.

Koyamada et al. 2023, arXiv:2303.17503. Each player sees its own view, also while it waits; the
state of all is their views and whose turn it is. A game for one is an environment of one agent.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pgx  # pyright: ignore[reportMissingImports]

from parl.core.errors import EnvError, nearest
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.adapters.pure import number, settled, space_of
from parl.envs.simulator import GameRules, packed, packed_size, unpacked
from parl.envs.team import only_first, team_spec

OF_CHANCE = ("backgammon", "kuhn_poker", "leduc_holdem")  # or of hidden cards: no plain search


def make_pgx(name: str, /) -> Any:
    """The environment of a game. Raises EnvError for an unknown name."""
    known = pgx.available_envs()
    if name not in known:
        raise EnvError(f"unknown environment 'pgx:{name}'.{nearest(name, known)}")
    game = pgx.make(name)
    return Alone(game) if game.num_players == 1 else Players(game)


class Alone:
    """A game for one, such as 2048: what it sees, and the mask of its actions."""

    def __init__(self, game: Any):
        self.game, self.like = game, jax.eval_shape(game.init, jax.random.key(0))
        mask = Box((game.num_actions,), "bool")
        self.spec = EnvSpec(
            id=f"pgx:{game.id}",
            observation_space={"view": space_of(self.like.observation), "legal": mask},
            action_space=Discrete(game.num_actions),
        )

    def reset(self, key: Array) -> tuple[Any, Any]:
        return self.seen(self.game.init(key))

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, Any, Array, Array, Array]:
        new, obs = self.seen(self.game.step(state, action, key))
        return new, obs, new.rewards[0].astype(jnp.float32), new.terminated, new.truncated

    def seen(self, state: Any) -> tuple[Any, Any]:
        """(state, observation)."""
        view = number(state.observation)
        return settled(state, self.like), {"view": view, "legal": state.legal_action_mask}


class Players:
    """A game of several players, of whom one moves at a time."""

    def __init__(self, game: Any):
        self.game, self.like = game, jax.eval_shape(game.init, jax.random.key(0))
        count, view = game.num_players, math.prod(game.observation_shape)
        self.players = np.arange(count)
        self.spec: EnvSpec = team_spec(
            f"pgx:{game.id}",
            [f"player_{i}" for i in self.players],
            [view] * count,
            [Discrete(game.num_actions)] * count,
            count * view + count,
            turns=True,
        )

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.game.id == self.game.id

    def __hash__(self) -> int:
        return hash((type(self), self.game.id))

    def with_simulator(self) -> "Players":
        """The same game with its rules, for a search; only games of two without chance have some.

        Observations then hold the state, too.
        """
        searchable = self.game.num_players == 2 and self.game.id not in OF_CHANCE
        return Shown(self.game) if searchable else self

    def reset(self, key: Array) -> tuple[Any, Any]:
        state = settled(self.game.init(key), self.like)
        return state, self.observe(state)

    def step(self, state: Any, action: Array, key: Array) -> tuple[Any, Any, Array, Array, Array]:
        new = settled(self.game.step(state, action[state.current_player], key), self.like)
        reward = new.rewards.astype(jnp.float32)
        return new, self.observe(new), reward, new.terminated, new.truncated

    def observe(self, state: Any) -> dict[str, Array]:
        """Views [N, O] of all players, masks, and the state of all."""
        over = state.terminated | state.truncated
        turn = (self.players == state.current_player) & ~over
        views = jax.vmap(lambda player: self.game._observe(state, player))(self.players)
        view = views.reshape(len(self.players), -1).astype(jnp.float32)
        nothing = only_first(self.game.num_actions)
        legal = jnp.where(turn[:, None], state.legal_action_mask, nothing)
        whole = jnp.concatenate([view.reshape(-1), turn.astype(jnp.float32)])
        alive = jnp.ones(len(self.players), bool)
        return {"view": view, "alive": alive, "turn": turn, "legal": legal, "state": whole}


class Shown(Players):
    """A game whose observations hold its state, as bytes under `sim`, which no network sees."""

    def __init__(self, game: Any):
        super().__init__(game)
        room = Box((packed_size(self.like),), "uint8")
        space: Any = self.spec.observation_space
        self.spec = dataclasses.replace(
            self.spec, observation_space=space | {"sim": room}, simulator=PgxRules(self)
        )

    def observe(self, state: Any) -> dict[str, Array]:
        return super().observe(state) | {"sim": packed(state)}

    def state_of(self, obs: Any) -> Any:
        """The state that an observation holds."""
        return unpacked(obs["sim"], self.like)


@dataclasses.dataclass(frozen=True)
class PgxRules(GameRules):
    """The rules of a game, which show what the mover sees and spend nothing on the others."""

    def step(self, state: Any, action: Array) -> tuple[Any, Any, Array, Array]:
        new = settled(self.game.game.step(state, action), self.game.like)
        over = new.terminated | new.truncated
        turn = (self.game.players == new.current_player) & ~over
        all_of = lambda x: jnp.broadcast_to(x, (len(turn), *x.shape))
        view = new.observation.reshape(-1).astype(jnp.float32)
        obs = {"view": all_of(view), "legal": all_of(new.legal_action_mask), "turn": turn}
        return new, obs, new.rewards.astype(jnp.float32), over
