"""The tree of sums, on the device and in numpy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from parl.agents.replay.priorities import WIDTH, Priorities

COUNT = 3 * WIDTH * WIDTH // 2  # three levels
ON_HOST = pytest.mark.parametrize("on_host", [False, True], ids=["device", "numpy"])


@pytest.fixture(autouse=True)
def compiled_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes and draws are programs there, as in every run."""

    def either(method: Any) -> Any:
        program = compiled(method)
        on_host = lambda priorities: isinstance(priorities.levels[0], np.ndarray)
        return lambda own, *args: (method if on_host(own) else program)(own, *args)

    for name in ("set", "draw"):
        monkeypatch.setattr(Priorities, name, either(getattr(Priorities, name)))


def tree(on_host: bool, count: int = COUNT) -> Priorities:
    return Priorities.zeros(count, (), on_host)


def assert_sums(priorities: Priorities) -> None:
    """Every node is the sum of its children."""
    for below, above in zip(priorities.levels[:-1], priorities.levels[1:], strict=True):
        sums = np.asarray(below).reshape(-1, WIDTH).sum(-1)
        np.testing.assert_allclose(np.asarray(above)[: len(sums)], sums, rtol=1e-5)
        assert (np.asarray(above)[len(sums) :] == 0).all()


@ON_HOST
def test_nodes_are_sums_after_any_writes(on_host: bool) -> None:
    rng, priorities, naive = np.random.default_rng(0), tree(on_host), np.zeros(COUNT)
    assert [x.shape for x in priorities.levels] == [(COUNT,), (2 * WIDTH,), (WIDTH,)]
    for _ in range(5):
        index, values = rng.permutation(COUNT)[:300], rng.random(300).astype(np.float32)
        priorities = priorities.set(jnp.asarray(index), jnp.asarray(values))
        naive[index] = values
        np.testing.assert_allclose(priorities.levels[0], naive, rtol=1e-6)
        assert_sums(priorities)
    np.testing.assert_allclose(priorities.total, naive.sum(), rtol=1e-5)
    np.testing.assert_allclose(priorities.largest, 1.0)
    np.testing.assert_allclose(priorities[np.array([[0, 5]])], naive[[[0, 5]]], rtol=1e-6)


@ON_HOST
def test_of_two_writes_to_one_item_the_larger_stays(on_host: bool) -> None:
    priorities = tree(on_host, 300).set(jnp.array([7]), jnp.array([9.0]))
    index, values = jnp.array([7, 3, 7, 3]), jnp.array([2.0, 4.0, 1.0, 5.0])
    priorities = priorities.set(index, values)
    np.testing.assert_array_equal(priorities[np.array([3, 7])], [5.0, 2.0])
    assert priorities.largest == 9.0
    assert_sums(priorities)
    same = priorities.set(jnp.arange(200, 210), priorities.largest)
    np.testing.assert_array_equal(same[np.arange(199, 211)], [0, *[9.0] * 10, 0])


@ON_HOST
def test_draws_are_in_proportion(on_host: bool) -> None:
    """Weights 1 : 2 : 5 far apart in the tree, and nothing else."""
    index = np.array([0, WIDTH * WIDTH - 1, COUNT - 1])
    priorities = tree(on_host).set(jnp.asarray(index), jnp.array([1.0, 2.0, 5.0]))
    drawn = np.asarray(priorities.draw(jax.random.key(0), (40, 200)))
    assert drawn.shape == (40, 200) and drawn.dtype == np.int32
    share = [(drawn == i).mean() for i in index]
    assert sum(share) == 1.0
    np.testing.assert_allclose(share, [1 / 8, 2 / 8, 5 / 8], atol=0.03)


def test_device_and_numpy_draw_the_same() -> None:
    values = np.random.default_rng(1).random(5000).astype(np.float32)
    both = [tree(h, 5000).set(jnp.arange(5000), jnp.asarray(values)) for h in (False, True)]
    device, host = (np.asarray(p.draw(jax.random.key(3), (500,))) for p in both)
    assert (device == host).mean() > 0.99  # sums are rounded in another order
    np.testing.assert_allclose(device.mean(), 2500, atol=200)


def test_seeds_have_trees_of_their_own() -> None:
    several = Priorities.zeros(300, (2,), False)
    index = jnp.array([[1, 2], [1, 2]])
    several = jax.vmap(Priorities.set)(several, index, jnp.array([[1.0, 0.0], [0.0, 3.0]]))
    drawn = jax.vmap(lambda p, k: p.draw(k, (20,)))(several, jax.random.split(jax.random.key(0)))
    np.testing.assert_array_equal(drawn, [[1] * 20, [2] * 20])
    np.testing.assert_array_equal(several.largest, [1.0, 3.0])


def test_numpy_writes_in_place() -> None:
    priorities: Any = tree(True, 300)
    after = priorities.set(np.array([5]), np.float32(2.0))
    assert after.levels[0] is priorities.levels[0]
