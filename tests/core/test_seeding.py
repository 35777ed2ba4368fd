"""Every random stream of a run follows from one integer."""

import jax
import numpy as np

from parl.core.seeding import EVALUATION, env_seed, run_keys


def words(seed: int) -> np.ndarray:
    return np.stack([jax.random.key_data(key) for key in run_keys(seed)])


def test_run_keys_depend_on_the_seed_and_differ_by_purpose() -> None:
    np.testing.assert_array_equal(words(3), words(3))
    assert len(np.unique(np.concatenate([words(3), words(4)]), axis=0)) == 6
    expected = jax.random.key_data(jax.random.split(jax.random.key(3), 3))
    np.testing.assert_array_equal(words(3), expected)


def test_run_keys_under_vmap_are_the_same() -> None:
    keys = jax.vmap(lambda seed: jax.random.key_data(run_keys(seed).act))(np.arange(3))
    for seed in range(3):
        np.testing.assert_array_equal(keys[seed], jax.random.key_data(run_keys(seed).act))


def test_env_seeds_are_apart_and_fit_31_bits() -> None:
    seeds = {env_seed(seed, worker) for seed in range(50) for worker in (*range(20), EVALUATION)}
    assert len(seeds) == 50 * 21
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
    assert env_seed(1, 2) == env_seed(1, 2) != env_seed(2, 1)


def test_env_seed_stays_what_it_is() -> None:
    """Checkpoints of Gymnasium environments that restart rely on it."""
    assert env_seed(0, 0) == int(np.random.SeedSequence((0, 0)).generate_state(1)[0]) // 2
