"""Noisy layers: the linear layer of their means where there is no noise, and its form elsewhere."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from parl.core.spec import Box
from parl.models import MLP, DiscreteValues, NoisyDense, modes

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)


def test_without_sigma_it_is_the_plain_network() -> None:
    """The same weights, with noise drawn."""

    def network(linear: Any) -> DiscreteValues:
        return DiscreteValues(Box((4,)), 3, MLP((6,), linear=linear), linear=linear)

    noisy = network(lambda n, **kw: NoisyDense(n, sigma=0.0, **kw))
    params = noisy.init(KEY, X)
    plain = {"params": renamed(params["params"])}
    values = modes.perturb(noisy, params, X, key=KEY)
    np.testing.assert_array_equal(values, network(nn.Dense).apply(plain, X))


def renamed(tree: Any) -> Any:
    """The means alone, under the names of plain layers."""
    if not isinstance(tree, dict):
        return tree
    kept = {name: x for name, x in tree.items() if "spread" not in name}
    return {name.replace("NoisyDense", "Dense"): renamed(x) for name, x in kept.items()}


def test_without_a_key_it_is_the_mean() -> None:
    layer = NoisyDense(3)
    params: Any = layer.init(KEY, X)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    outputs: Any = layer.apply(params, X)
    np.testing.assert_allclose(outputs, X @ kernel + bias, rtol=1e-6)
    np.testing.assert_allclose(params["params"]["kernel_spread"], 0.5 / 2)
    np.testing.assert_allclose(params["params"]["bias_spread"], 0.5 / 2)


def test_noise_is_factorised_and_shared_by_the_batch() -> None:
    """The change of the output is (x (s e_in)) e_out + s e_out, of one rank over the outputs."""
    layer = NoisyDense(3)
    params: Any = layer.init(KEY, X)
    change = lambda key: np.asarray(
        modes.perturb(layer, params, X, key=key) - layer.apply(params, X)
    )
    first = change(KEY)
    assert np.linalg.matrix_rank(first, tol=1e-5) == 1
    np.testing.assert_array_equal(first, change(KEY))
    many = np.stack([change(jax.random.key(seed)) for seed in range(200)])
    # E f(x)^2 = E|x| = sqrt(2 / pi), for either factor
    size, spread = np.sqrt(2 / np.pi), 0.25**2
    expected = spread * (size**2 * (np.asarray(X) ** 2).sum(-1) + size)
    np.testing.assert_allclose((many**2).mean((0, 2)), expected, rtol=0.35)
    np.testing.assert_allclose(many.mean(0), 0, atol=0.25)
