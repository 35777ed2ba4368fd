"""The rules of games, rebuilt from what the players see, are the games."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.envs.factory import make_factory, with_simulator
from parl.envs.multi.board_games import CONNECT_FOUR, TIC_TAC_TOE
from parl.envs.simulator import packed, packed_size, unpacked


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


def test_a_state_of_any_types_travels_as_bytes() -> None:
    state = {
        "board": jnp.arange(-3, 3, dtype=jnp.int8),
        "flags": jnp.array([[True, False]]),
        "score": jnp.float32(-0.25),
        "count": jnp.arange(2, dtype=jnp.int32) * 70_000,
        "key": jax.random.key(7),
    }
    data = packed(state)
    assert (data.dtype, data.shape) == (jnp.uint8, (6 + 2 + 4 + 8 + 8,))
    assert packed_size(jax.eval_shape(lambda: state)) == 28
    again = unpacked(jnp.asarray(np.asarray(data)), jax.eval_shape(lambda: state))
    for name, x in state.items():
        assert again[name].dtype == x.dtype and (again[name] == x).all(), name


def test_a_game_of_pgx_shows_its_state_where_a_search_asks_for_it() -> None:
    pytest.importorskip("pgx")
    plain = make_factory("pgx:tic_tac_toe")
    assert plain.spec.simulator is None and "sim" not in plain.spec.obs
    found = with_simulator(plain)
    assert found.id == "pgx:tic_tac_toe" and "sim" in found.spec.obs
    assert found.jax == with_simulator(plain).jax != plain.jax
    rules: Any = found.spec.simulator
    env = found.vector(1, 0, 0)
    obs = env.reset()
    for move in (4, 0, 8):
        one = jax.tree.map(lambda x: x[0], obs)
        _, seen, reward, over = rules.step(rules.state_of(one), jnp.int32(move))
        obs = env.step(np.where(obs["turn"], move, 0)).obs
        mover = obs["turn"][0].argmax()
        np.testing.assert_array_equal(obs["turn"][0], seen["turn"])
        for name in ("view", "legal"):
            np.testing.assert_array_equal(obs[name][0, mover], seen[name][mover], err_msg=name)
        assert not over and not reward.any()
    chance = make_factory("pgx:kuhn_poker")
    assert with_simulator(chance).spec.simulator is None
