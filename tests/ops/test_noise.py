"""Exploration noise: its law at one step, and how steps relate."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.ops.noise import Colored, Noise, OrnsteinUhlenbeck, Repeated, Scaled, White

RUNS, SIZE = 3000, 2


def unroll(noise: Noise, steps: int, runs: int = RUNS) -> np.ndarray:
    """Noise [steps, runs, SIZE] from the start of an episode."""

    def step(memory: Any, key: Any) -> Any:
        sample, memory = noise(key, memory, (runs, SIZE))
        return memory, sample

    keys = jax.random.split(jax.random.key(0), steps)
    return np.asarray(jax.jit(lambda: jax.lax.scan(step, noise.start((runs,)), keys)[1])())


@pytest.mark.parametrize(
    "noise", [White(), Colored(SIZE, 1.0, 32), Colored(SIZE, 2.0, 8), Repeated(SIZE)], ids=str
)
def test_every_single_step_is_standard_normal(noise: Noise) -> None:
    """At the start, in between, and when the memory is full."""
    x = unroll(noise, 40)
    np.testing.assert_allclose(x.mean((1, 2)), 0, atol=0.08)  # 6 standard errors
    np.testing.assert_allclose(x.std((1, 2)), 1, atol=0.06)


def test_white_noise_is_a_plain_draw() -> None:
    key = jax.random.key(3)
    sample, memory = White()(key, (), (4, 2))
    np.testing.assert_array_equal(sample, jax.random.normal(key, (4, 2)))
    assert memory == ()


def test_ornstein_uhlenbeck() -> None:
    """x1 = e1, x2 = 0.85 e1 + e2; in the long run variance 1 / (theta (2 - theta))."""
    noise, k1, k2 = OrnsteinUhlenbeck(2), jax.random.key(1), jax.random.key(2)
    x1, memory = noise(k1, noise.start((3,)), (3, 2))
    x2, memory = noise(k2, memory, (3, 2))
    e1, e2 = (jax.random.normal(k, (3, 2)) for k in (k1, k2))
    np.testing.assert_allclose(x1, e1, rtol=1e-6)
    np.testing.assert_allclose(x2, 0.85 * e1 + e2, rtol=1e-5)
    np.testing.assert_array_equal(memory, x2)
    x = unroll(noise, 60)
    np.testing.assert_allclose(x[-1].var(), 1 / (0.15 * 1.85), rtol=0.1)
    np.testing.assert_allclose(np.mean(x[-1] * x[-2]) / x[-1].var(), 0.85, atol=0.03)


def test_weights_of_colored_noise() -> None:
    """Kasdin 1995, eq. 104: white 1, 0, 0; pink 1, 1/2, 3/8; red 1, 1, 1."""
    np.testing.assert_allclose(Colored(1, 0.0, 3).weights, [1, 0, 0])
    np.testing.assert_allclose(Colored(1, 1.0, 4).weights, [1, 1 / 2, 3 / 8, 5 / 16])
    np.testing.assert_allclose(Colored(1, 2.0, 3).weights, [1, 1, 1])


def test_red_noise_is_a_random_walk_over_its_spread() -> None:
    noise, keys = Colored(1, 2.0, 3), jax.random.split(jax.random.key(0), 4)
    white = np.array([jax.random.normal(k, (1, 1)) for k in keys]).reshape(-1)
    memory, seen = noise.start((1,)), []
    for key in keys:
        sample, memory = noise(key, memory, (1, 1))
        seen.append(float(sample[0, 0]))
    sums = white[0], white[:2].sum(), white[:3].sum(), white[1:].sum()  # three are remembered
    np.testing.assert_allclose(seen, np.array(sums) / np.sqrt([1, 2, 3, 3]), rtol=1e-5)


def test_the_spectrum_of_pink_noise_falls_as_one_over_frequency() -> None:
    x = unroll(Colored(SIZE, 1.0, 256), 1024, runs=100)[256:]
    power = (np.abs(np.fft.rfft(x, axis=0)) ** 2).mean((1, 2))
    bands = [power[a:b].mean() for a, b in ((8, 16), (16, 32), (32, 64), (64, 128))]
    ratios = np.array(bands[:-1]) / bands[1:]
    np.testing.assert_allclose(ratios, 2, rtol=0.15)


def test_repeated_noise_holds_a_draw_for_a_while() -> None:
    """Lengths n = 1 .. 3 with probability in the ratio 1 : 1/4 : 1/9."""
    x = unroll(Repeated(SIZE, 2.0, 3), 200, runs=200)[..., 0]
    assert (np.diff(x, axis=0) == 0).any()
    lengths = []
    for run in x.T:
        cuts = np.flatnonzero(np.diff(run)) + 1
        lengths += list(np.diff(cuts))
    share = np.bincount(lengths, minlength=4)[1:] / len(lengths)
    np.testing.assert_allclose(share, np.array([36, 9, 4]) / 49, atol=0.02)


def test_memory_has_the_wanted_leading_axes() -> None:
    kinds: list[Any] = [White(), OrnsteinUhlenbeck(2), Colored(2), Repeated(2)]
    for noise in kinds:
        memory = noise.start((3, 4))
        assert all(x.shape[:2] == (3, 4) for x in jax.tree.leaves(memory))
        assert all((x == 0).all() for x in jax.tree.leaves(memory))
        assert hash(noise) == hash(noise)
        call = lambda noise=noise, memory=memory: noise(jax.random.key(0), memory, (3, 4, 2))
        sample, after = jax.eval_shape(call)
        assert sample.shape == (3, 4, 2) and sample.dtype == jnp.float32
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, memory)


def test_noise_of_many_environments() -> None:
    """Whole for the first of four, then 0.4, 0.16 and 0.064 of it; all alike without a spread."""
    place = np.arange(4) / 3
    key, shape = jax.random.key(0), (4, 2)
    whole, _ = White()(key, (), shape)
    found, memory = Scaled.apart(White(), 3.0, jnp.asarray(place))(key, (), shape)
    np.testing.assert_allclose(found / whole, [[1, 1], [0.4] * 2, [0.16] * 2, [0.064] * 2], 1e-5)
    assert memory == ()
    alike, _ = Scaled.apart(White(), 0.0, jnp.asarray(place))(key, (), shape)
    np.testing.assert_array_equal(alike, whole)
