"""Level-based foraging: the rules by hand, and step by step beside lbforaging."""

import dataclasses
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.envs.factory import make_factory
from parl.envs.multi.foraging import Foraging, ForagingState

KEY = jax.random.key(0)
STAY, NORTH, SOUTH, WEST, EAST, LOAD = range(6)


@cache
def jitted(env: Foraging) -> Any:
    return jax.jit(env.step)


def state(position: Any, level: Any, food: Any, food_level: Any, time: int = 0) -> ForagingState:
    whole = lambda x: jnp.array(x, jnp.int32)
    total = whole(sum(food_level))
    places = [whole(x) for x in (position, level, food, food_level)]
    return ForagingState(*places, total=total, time=whole(time))


def test_two_load_what_one_cannot() -> None:
    env = Foraging()
    start = state([[2, 3], [4, 3]], [1, 2], [[3, 3], [5, 5]], [3, 1])
    _, obs, reward, *ends = jitted(env)(start, jnp.array([LOAD, STAY]), KEY)
    assert not np.asarray(reward).any() and not any(ends)
    after, obs, reward, *ends = jitted(env)(start, jnp.array([LOAD, LOAD]), KEY)
    np.testing.assert_allclose(reward, [1 * 3 / (3 * 4), 2 * 3 / (3 * 4)])
    np.testing.assert_array_equal(after.food_level, [0, 1])
    np.testing.assert_array_equal(obs["view"][0], [5, 5, 1, -1, -1, 0, 2, 3, 1, 4, 3, 2])
    np.testing.assert_array_equal(obs["view"][1], [5, 5, 1, -1, -1, 0, 4, 3, 2, 2, 3, 1])
    assert not any(ends)
    last = state([[5, 4], [0, 0]], [1, 2], [[3, 3], [5, 5]], [0, 1]).replace(total=jnp.int32(4))
    _, _, reward, *ends = jitted(env)(last, jnp.array([LOAD, LOAD]), KEY)
    np.testing.assert_allclose(reward, [0.25, 0])
    assert [bool(end) for end in ends] == [True, False]


@pytest.mark.parametrize(
    "actions, expected",
    [
        ([EAST, WEST], [[0, 0], [0, 2]]),  # both want (0, 1): none gets it
        ([STAY, WEST], [[0, 0], [0, 1]]),
        ([NORTH, NORTH], [[0, 0], [0, 2]]),  # the edge of the field
        ([EAST, SOUTH], [[0, 1], [0, 2]]),  # food lies at (1, 2)
    ],
)
def test_moves(actions: list[int], expected: list[list[int]]) -> None:
    start = state([[0, 0], [0, 2]], [1, 1], [[1, 2], [5, 5]], [1, 1])
    after, *_ = jitted(Foraging())(start, jnp.array(actions), KEY)
    np.testing.assert_array_equal(after.position, expected)


def test_the_time_limit_truncates() -> None:
    start = state([[0, 0], [0, 2]], [1, 1], [[1, 2], [5, 5]], [1, 1], time=49)
    _, _, _, terminated, truncated = jitted(Foraging())(start, jnp.array([STAY, STAY]), KEY)
    assert not terminated and truncated


@pytest.mark.parametrize("coop", [False, True])
def test_resets_place_food_as_lbforaging_does(coop: bool) -> None:
    env = Foraging(size=8, players=2, foods=3, coop=coop)
    start = jax.jit(jax.vmap(lambda key: env.reset(key)[0]))(jax.random.split(KEY, 2000))
    start = jax.tree.map(np.asarray, start)
    assert start.food.min() == 1 and start.food.max() == 6, "not at the edge"
    assert np.bincount(start.level.reshape(-1)).tolist()[0] == 0 and start.level.max() == 2
    low = start.level.sum(1) if coop else np.ones(2000)
    levels = start.food_level
    assert ((levels >= low[:, None]) & (levels <= start.level.sum(1)[:, None])).all()
    gap = np.abs(start.food[:, :, None] - start.food[:, None])[:, ~np.eye(3, dtype=bool)]
    assert (gap.max(-1) > 1).all() and ((gap.min(-1) > 0) | (gap.max(-1) > 2)).all()
    cells = np.concatenate([start.position, start.food], 1) @ [8, 1]
    assert all(len(set(row)) == 5 for row in cells)
    np.testing.assert_array_equal(cells[:, 2:], np.sort(cells[:, 2:], 1))
    np.testing.assert_array_equal(start.total, levels.sum(1))


def state_of(game: Any) -> ForagingState:
    """lbforaging's state as ours; food that is eaten lies at the end."""
    foods = np.argwhere(game.field > 0)
    missing = game.max_num_food - len(foods)
    levels = [game.field[tuple(cell)] for cell in foods] + [0] * missing
    cells = np.concatenate([foods, np.zeros((missing, 2))])
    position, level = [p.position for p in game.players], [p.level for p in game.players]
    one = state(position, level, cells, levels, game.current_step)
    return one.replace(total=jnp.int32(game._food_spawned))


def hungry(game: Any, rng: np.random.Generator) -> np.ndarray:
    """Actions of players that mostly walk to one food and load it."""
    target, action = np.argwhere(game.field > 0)[0], rng.integers(0, 6, len(game.players))
    for i, player in enumerate(game.players):
        down, right = target - player.position
        walk = (
            [NORTH, SOUTH][int(down > 0)]
            if abs(down) > abs(right)
            else [WEST, EAST][int(right > 0)]
        )
        if rng.random() < 0.7:
            action[i] = LOAD if abs(down) + abs(right) == 1 else walk
    return action.astype(np.int32)


@pytest.mark.parametrize("name", ["8x8-2p-2f-coop", "2s-8x8-3p-3f"])
def test_episodes_run_as_in_lbforaging(name: str) -> None:
    pytest.importorskip("lbforaging")
    import gymnasium

    theirs: Any = gymnasium.make(f"Foraging-{name}-v3", disable_env_checker=True)
    game, ours = theirs.unwrapped, make_factory(f"jax:foraging-{name}").jax
    assert isinstance(ours, Foraging) and ours.spec.id == f"jax:foraging-{name}"
    assert dataclasses.replace(ours).spec.max_steps == game._max_episode_steps
    rng, paid, moved = np.random.default_rng(0), 0.0, 0
    for seed in range(12):
        seen, _ = theirs.reset(seed=seed)
        mine, done = state_of(game), False
        np.testing.assert_array_equal(ours.observe(mine)["view"], np.stack(seen))
        while not done:
            action = hungry(game, rng)
            seen, reward, done, *_ = theirs.step(action)
            mine, obs, gained, *ends = jitted(ours)(mine, action, KEY)
            np.testing.assert_allclose(gained, reward, atol=1e-6)
            np.testing.assert_array_equal(obs["view"], np.stack(seen))
            assert any(map(bool, ends)) == done
            paid, moved = paid + sum(reward), moved + 1
    assert paid > 3 and moved > 100
