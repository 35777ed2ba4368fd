"""JAX's random numbers in NumPy, bit for bit."""

import jax
import numpy as np

from parl.deploy import threefry


def test_bits_split_and_fold_in_are_those_of_jax() -> None:
    for seed in (0, 7, 2**32 - 1):
        key, own = jax.random.key(seed), threefry.key_of(seed)
        assert (jax.random.key_data(key) == own).all()
        assert (jax.random.bits(key, (3, 5)) == threefry.random_bits(own, (3, 5))).all()
        assert (jax.random.key_data(jax.random.split(key, 4)) == threefry.split(own, (4,))).all()
        for data in (0, 1, 123_456, -1):
            folded = jax.random.key_data(jax.random.fold_in(key, np.int32(data)))
            assert (folded == threefry.fold_in(own, data)).all()


def test_known_answer() -> None:
    """The vector of the authors' own tests: key and counter of all ones."""
    ones = np.array([0xFFFFFFFF], np.uint32)
    x, y = threefry.threefry([0xFFFFFFFF, 0xFFFFFFFF], ones, ones)
    assert (int(x[0]), int(y[0])) == (0x1CB996FC, 0xBB002BE7)
