"""A replay in shards: drawn from as from one replay, with priorities and errors that come late."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.agents.execution.sharded import ShardedLearner, read_by
from parl.agents.learner import OffPolicy
from parl.agents.replay.joined import Places, joined, places
from parl.agents.replay.reservoir import Reservoir
from parl.agents.replay.ring import NumpyReplay, Replay
from parl.agents.replay.sampling import NStep, Prioritized
from parl.agents.replay.segments import Segments
from parl.agents.replay.shard import Drawn, KnowingReplay, Shard, in_shards, padded
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.types import Rollout, Step

LENGTH = 8  # steps of a rollout of one environment


def rollout(start: int) -> Rollout:
    """Steps whose reward is their number, of one environment."""
    number = np.arange(start, start + LENGTH, dtype=np.float32)[:, None]
    flags = np.zeros((LENGTH, 1), bool)
    obs = number[..., None]
    return Rollout(Step(obs, obs, number, np.ones_like(number), obs + 1, flags, flags, {}), ())


def shard(replay: Any, count: int = 1, seed: int = 0) -> Shard:
    return Shard(ShardedLearner.of(OffPolicy(Algorithm(), replay), count), rollout(0), seed)


def drawn_from(shards: list[Shard], updates: int, size: int, seed: int = 0) -> Any:
    """(places, what each shard drew, batches [updates, size])."""
    rng = np.random.default_rng(seed)
    where = places([s.standing().mass for s in shards], updates, size, rng)
    draws: list[Drawn | None] = [
        s.draw(int(n)) for s, n in zip(shards, where.counts.sum(0), strict=True)
    ]
    return where, draws, joined(draws, where, 0.4)


def prioritized() -> list[Shard]:
    """Two shards with items 0 .. 39, 24 and 16, whose errors are their numbers."""
    shards = [shard(Prioritized(Replay(80), alpha=1.0, epsilon=0.0), 2, seed) for seed in (1, 2)]
    for add, which in enumerate((0, 0, 1, 0, 1)):
        shards[which].add(rollout(LENGTH * add), 1.0)
    for part in shards:
        rows = np.arange(part.added)
        part.learned(rows, part.state.rows["float32"][rows, 2], part.added)
    return shards


def test_draws_by_priority_are_those_of_one_replay() -> None:
    """Chi-square of 40,000 draws of each against the probabilities i / 780, and of one another."""
    from scipy import stats  # only now: it takes a second to load

    one = Prioritized(NumpyReplay(40), alpha=1.0, epsilon=0.0)
    state = one.init(one_step := jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout(0)[0]))
    assert one_step.reward.shape == (LENGTH,)
    for add in range(5):
        steps = rollout(LENGTH * add).steps
        state = one.add(state, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps))
    state = one.learned(state, np.arange(40), np.arange(40, dtype=np.float32))
    alone = np.asarray(one.index(state, jax.random.key(0), (40_000,)))
    _, _, batches = drawn_from(prioritized(), 160, 250)
    expected = np.arange(40) / 780 * 40_000
    counts = [np.bincount(np.int64(x).ravel(), minlength=40) for x in (alone, batches.reward)]
    for found in counts:
        assert found[0] == 0
        assert stats.chisquare(found[1:], expected[1:]).pvalue > 0.01
    alike: Any = stats.chi2_contingency(np.stack(counts)[:, 1:])
    assert alike.pvalue > 0.01


def test_weights_are_those_of_one_replay() -> None:
    """(1 / (40 P))^0.4 with P = i / 780, over the largest of the batch."""
    _, _, batches = drawn_from(prioritized(), 3, 50)
    number, weight = batches.reward, batches.extras["weight"]
    expected = (40 * number / 780) ** -0.4
    np.testing.assert_allclose(weight, expected / expected.max(-1, keepdims=True), rtol=1e-4)
    assert weight.dtype == np.float32


def test_uniform_draws_are_by_size() -> None:
    from scipy import stats

    shards = [shard(Replay(80), 2, seed) for seed in (1, 2)]
    for add, which in enumerate((0, 0, 0, 1)):
        shards[which].add(rollout(LENGTH * add), 1.0)
    _, draws, batches = drawn_from(shards, 40, 100)
    counts = np.bincount(np.int64(batches.reward).ravel(), minlength=32)
    assert stats.chisquare(counts).pvalue > 0.01
    assert abs(len(draws[0].rows) / 4_000 - 0.75) < 0.03
    assert set(batches.reward[:, -1].tolist()) <= set(range(24, 32)), "the last are of the last"


def test_every_item_has_its_place_in_the_batches() -> None:
    where = Places(np.array([[2, 1], [0, 3], [3, 0]]), np.array([0.6, 0.4]))
    np.testing.assert_array_equal(where.of(0), [0, 1, 6, 7, 8])
    np.testing.assert_array_equal(where.of(1), [2, 3, 4, 5])


def test_new_items_get_the_largest_priority_of_any_shard() -> None:
    one, other = (shard(Prioritized(Replay(40)), 1, seed) for seed in (1, 2))
    one.add(rollout(0), 1.0)
    assert one.learned(np.array([3]), np.array([7.0]), 8).standing.largest == pytest.approx(
        7.001**0.6
    )
    standing = other.add(rollout(8), one.standing().largest)
    assert standing.mass == pytest.approx(8 * 7.001**0.6, rel=1e-5)


def test_errors_of_replaced_items_are_dropped() -> None:
    """The ring of 16 is written over by half: rows 0 to 7 hold others than those drawn."""
    part = shard(Prioritized(Replay(16), alpha=1.0, epsilon=0.0))
    part.add(rollout(0), 1.0)
    assert part.add(rollout(8), 1.0).added == 16
    part.add(rollout(16), 1.0)
    told = part.learned(np.array([2, 7, 8, 12]), np.full(4, 5.0, np.float32), added=16)
    assert told.late == 2
    known = part.state.priorities[np.array([2, 7, 8, 12, 13])]
    np.testing.assert_allclose(known, [1, 1, 5, 5, 1])
    assert part.learned(np.array([8]), np.array([9.0]), added=0).late == 1


def test_windows_and_steps_are_drawn() -> None:
    part = shard(Segments(Replay(64), length=4, burn_in=1))
    part.add(rollout(0), 1.0)
    windows = part.draw(5).items
    assert windows.steps.reward.shape == (5, 3) and windows.before.reward.shape == (5, 1)
    np.testing.assert_array_equal(windows.steps.reward[:, 1] - windows.before.reward[:, 0], 2)
    part = shard(NStep(Replay(64), n=2, gamma=0.5))
    part.add(rollout(0), 1.0)
    steps = part.draw(20).items
    expected = np.where(steps.obs[:, 0] == 7, 7, 1.5 * steps.obs[:, 0] + 0.5)
    np.testing.assert_allclose(steps.reward, expected)


def test_images_are_drawn_whole() -> None:
    """An image is full of its step's number, modulo 256; one reward is NaN and never drawn."""
    image = lambda start: np.broadcast_to(
        np.arange(start, start + LENGTH, dtype=np.uint8)[:, None, None, None, None],
        (LENGTH, 1, 6, 5, 4),
    )
    pictures = lambda start: Rollout(
        rollout(start).steps._replace(obs=image(start), next_obs=image(start + 1)), ()
    )
    learner = ShardedLearner.of(OffPolicy(Algorithm(), Replay(32)), 2)
    shards = [Shard(learner, pictures(0), seed) for seed in (1, 2)]
    for add, part in enumerate(shards * 2):
        given = pictures(LENGTH * add)
        given.steps.reward[0] = np.nan if add == 2 else given.steps.reward[0]
        part.add(given, 1.0)
    _, _, batches = drawn_from(shards, 8, 40)
    number = batches.reward
    assert batches.obs.shape == (8, 40, 6, 5, 4) and batches.obs.dtype == np.uint8
    assert set(number.ravel().tolist()) == set(range(32)) - {16}
    wide = np.broadcast_to(number[..., None, None, None], batches.obs.shape)
    np.testing.assert_array_equal(batches.obs, wide)
    np.testing.assert_array_equal(batches.next_obs, wide + 1)


def test_what_each_shard_holds() -> None:
    learner = ShardedLearner.of(OffPolicy(Algorithm(), Prioritized(NStep(Replay(1_000)))), 4)
    inner: Any = learner.replay
    assert not inner.normalized and inner.inner.n == 3
    assert inner.inner.inner == KnowingReplay(250, in_order=False)
    assert learner.room(rollout(0)) == (8, 248)
    with pytest.raises(ConfigError, match="replay of 5 items cannot take 8 at once"):
        ShardedLearner.of(OffPolicy(Algorithm(), Replay(20)), 4).room(rollout(0))
    with pytest.raises(ConfigError, match="kind Reservoir cannot be divided into shards"):
        in_shards(Reservoir(Replay(20)), 2)


@pytest.mark.parametrize("count", [1, 7, 100, 4_095, 4_096, 30_000])
def test_few_numbers_of_items_are_drawn(count: int) -> None:
    assert count <= padded(count) <= max(count * 1.1 + 8, count + 50)
    spread = range(count, count + int(3 * count**0.5))
    assert len({padded(n) for n in spread}) <= 3


def test_only_leaves_that_are_read_are_known() -> None:
    """The reward is read, the observation only for its shape, and the action is passed on."""
    algorithm = lambda state, steps: (state + steps["reward"].sum() * len(steps["obs"]), steps["a"])
    tree = {"a": jnp.ones(2), "obs": jnp.ones(3), "reward": jnp.ones(4)}
    assert read_by(algorithm, jnp.float32(0), tree) == (0, 2)
