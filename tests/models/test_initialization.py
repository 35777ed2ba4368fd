"""Orthogonal weights, also where an ensemble is initialised."""

import jax
import jax.numpy as jnp
import numpy as np

from parl.models.initialization import orthogonal


def test_columns_are_orthogonal_of_the_given_length() -> None:
    kernel = orthogonal(2.0)(jax.random.key(0), (6, 4))
    np.testing.assert_allclose(kernel.T @ kernel, 4.0 * np.eye(4), atol=1e-5)


def test_a_vmap_gives_every_key_its_own_and_factorises_one_at_a_time() -> None:
    init, keys = orthogonal(1.0), jax.random.split(jax.random.key(0), 3)
    many = jax.vmap(lambda key: init(key, (5, 3)))
    for kernel, key in zip(many(keys), keys, strict=True):
        np.testing.assert_allclose(kernel, init(key, (5, 3)), atol=1e-6)
    text = jax.jit(many).lower(keys).as_text()
    assert "stablehlo.while" in text and "geqrf" in text
    assert "tensor<3x5x3xf32>) -> (tensor<3x5x3xf32>, tensor<3x3xf32>" not in text


def test_ensembles_and_seeds_may_nest() -> None:
    init, keys = orthogonal(1.0), jax.random.split(jax.random.key(1), (2, 2))
    nested = jax.vmap(jax.vmap(lambda key: init(key, (3, 3))))(keys)
    assert nested.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(nested[1, 0], init(keys[1, 0], (3, 3)), atol=1e-6)
    assert jnp.abs(nested[0, 0] - nested[0, 1]).max() > 0.1
