"""The rules of games, rebuilt from what the players see, are the games."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.envs.multi.board_games import CONNECT_FOUR, TIC_TAC_TOE


@pytest.mark.parametrize("game", [TIC_TAC_TOE, CONNECT_FOUR], ids=lambda game: game.id)
def test_a_position_is_rebuilt_from_the_movers_view_and_goes_on_as_the_game(game: Any) -> None:
    """Of 50 games played at random to their ends, with the waiting player's view hidden."""
    rules = game.spec.simulator

    def play(key: Any) -> Any:
        def step(carry: Any, key: Any) -> Any:
            state, obs = carry
            seen = obs | {"view": jnp.where(obs["turn"][:, None], obs["view"], 7.0)}
            position = rules.state_of(seen)
            move = jax.random.categorical(key, jnp.where(obs["legal"][state.player], 0.0, -jnp.inf))
            new = game.step(state, jnp.where(obs["turn"], move, 0), key)
            again = rules.step(position, move)
            same = [(a == b).all() for a, b in zip(jax.tree.leaves((state, *new[:4])), jax.tree.leaves((position, *again)), strict=True)]  # fmt: skip # noqa: E501
            playing = ~state.over
            return jax.lax.cond(playing, lambda: new[:2], lambda: carry), (
                playing,
                jnp.stack(same).all(),
            )

        return jax.lax.scan(step, game.reset(key), jax.random.split(key, game.cells))[1]

    playing, same = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), 50))
    assert np.all(same[playing]) and 250 < playing.sum() < 50 * game.cells
    assert game.spec.simulator == rules and hash(rules) == hash(game.spec.simulator)
