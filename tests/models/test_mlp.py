"""Multi-layer perceptrons."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parl.models import MLP
from parl.models.mlp import normalised_relu


def test_is_the_written_out_product() -> None:
    net: Any = MLP((4, 2), jnp.tanh)
    x = np.array([[1.0, -2.0, 0.5]], np.float32)
    params = net.init(jax.random.key(0), x)
    p = jax.device_get(params["params"])
    for layer in ("Dense_0", "Dense_1"):
        p[layer]["bias"] = p[layer]["bias"] + 0.1
    h = np.tanh(x @ p["Dense_0"]["kernel"] + 0.1)
    expected = np.tanh(h @ p["Dense_1"]["kernel"] + 0.1)
    np.testing.assert_allclose(net.apply({"params": p}, x), expected, rtol=1e-5)


def test_leading_axes_are_free_and_no_layers_is_the_identity() -> None:
    net: Any = MLP((4, 2))
    x = np.arange(24, dtype=np.float32).reshape(2, 4, 3) / 24
    params = net.init(jax.random.key(0), x[0, :1])
    out = net.apply(params, x)
    assert out.shape == (2, 4, 2)
    np.testing.assert_allclose(out[1, 2], net.apply(params, x[1, 2]), rtol=1e-6)
    np.testing.assert_array_equal(MLP(()).apply({}, x), x)


def test_positive_parts_can_be_normalised() -> None:
    net: Any = MLP((3,), normalised_relu)
    x = np.array([[1.0, -2.0, 0.5]], np.float32)
    params = net.init(jax.random.key(0), x)
    positive = np.maximum(x @ params["params"]["Dense_0"]["kernel"], 0)
    expected = (positive - positive.mean()) / np.sqrt(positive.var() + 1e-6)
    np.testing.assert_allclose(net.apply(params, x), expected, rtol=1e-5, atol=1e-6)
