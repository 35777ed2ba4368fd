"""Convolutional networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow

from parl.models import NatureCNN
from parl.models.cnn import Conv, convolution, shifted_products


def shapes(size: int, channels: int) -> dict[str, tuple[int, ...]]:
    image = jnp.zeros((1, size, size, channels), jnp.uint8)
    params = jax.eval_shape(lambda: NatureCNN().init(jax.random.key(0), image))["params"]
    return {name: layer["kernel"].shape for name, layer in params.items()}


def test_layers_of_the_nature_paper() -> None:
    assert shapes(84, 4) == {
        "Conv_0": (8, 8, 4, 32),
        "Conv_1": (4, 4, 32, 64),
        "Conv_2": (3, 3, 64, 64),
        "Dense_0": (7 * 7 * 64, 512),
    }


def test_small_images_are_halved_until_they_are_as_few_as_in_the_paper() -> None:
    assert shapes(16, 3) == {
        "Conv_0": (3, 3, 3, 32),
        "Conv_1": (4, 4, 32, 64),
        "Conv_2": (4, 4, 64, 64),
        "Dense_0": (4 * 4 * 64, 512),
    }
    assert shapes(10, 3)["Dense_0"][0] == 5 * 5 * 64
    assert shapes(35, 3)["Dense_0"][0] == 4 * 4 * 64
    assert shapes(6, 2) == {
        "Conv_0": (3, 3, 2, 32),
        "Conv_1": (3, 3, 32, 64),
        "Dense_0": (6 * 6 * 64, 512),
    }
    assert shapes(36, 1)["Dense_0"][0] == 64, "36 pixels are just enough for the large kernels"


def test_large_images_take_more_layers() -> None:
    assert shapes(96, 3)["Dense_0"][0] == 8 * 8 * 64, "as in the paper"
    frame = jnp.zeros((1, 210, 160, 3), jnp.uint8)
    params = jax.eval_shape(lambda: NatureCNN().init(jax.random.key(0), frame))["params"]
    assert params["Conv_3"]["kernel"].shape == (4, 4, 64, 64)
    assert params["Dense_0"]["kernel"].shape == (10 * 7 * 64, 512)


@pytest.mark.parametrize("lead", [slow(()), slow((2,)), (2, 3)])
def test_any_leading_axes(lead: tuple[int, ...]) -> None:
    net: Any = NatureCNN(features=5)
    image = np.random.default_rng(0).integers(256, size=(*lead, 6, 6, 1)).astype(np.uint8)
    params = net.init(jax.random.key(0), image)
    out = net.apply(params, image)
    assert out.shape == (*lead, 5) and out.dtype == jnp.float32
    one = net.apply(params, image.reshape(-1, 6, 6, 1)[-1])
    np.testing.assert_allclose(out.reshape(-1, 5)[-1], one, rtol=1e-4, atol=1e-6)


def test_bytes_are_scaled_to_one() -> None:
    net: Any = NatureCNN(features=5)
    image = np.full((1, 6, 6, 1), 255, np.uint8)
    params = net.init(jax.random.key(0), image)
    # all layers are piecewise linear without bias at initialisation: 255 is 5 times 51
    np.testing.assert_allclose(
        net.apply(params, image), 5 * net.apply(params, image // 5), rtol=1e-4
    )
    np.testing.assert_allclose(
        net.apply(params, image), net.apply(params, np.ones((1, 6, 6, 1), np.float32)), rtol=1e-6
    )
    assert np.abs(net.apply(params, image)).max() < 10


@pytest.mark.parametrize(
    "size, kernel, stride, channels",
    [slow(84, 8, 4, 3), slow(20, 4, 2, 3), (9, 3, 1, 3), (9, 3, 1, 16), slow(23, 6, 3, 3)],
)
def test_shifted_products_are_the_convolution(
    size: int, kernel: int, stride: int, channels: int
) -> None:
    """Side by side where pixels have few channels, one by one where they have more."""
    random = np.random.default_rng(1)
    x = jnp.asarray(random.normal(size=(2, size, size + 1, channels)), jnp.float32)
    w = jnp.asarray(random.normal(size=(kernel, kernel, channels, 5)), jnp.float32)
    expected = convolution(x, w, stride)
    np.testing.assert_allclose(shifted_products(x, w, stride), expected, atol=2e-4)
    score = lambda conv: jax.grad(lambda x, w: (conv(x, w, stride) ** 2).sum(), (0, 1))(x, w)
    for ours, xla in zip(score(shifted_products), score(convolution), strict=True):
        np.testing.assert_allclose(ours, xla, rtol=1e-3, atol=1e-2)


def test_a_stride_that_does_not_divide_the_kernel() -> None:
    x = np.random.default_rng(2).normal(size=(7, 7, 1)).astype(np.float32)
    out, params = Conv(2, kernel=3, stride=2).init_with_output(jax.random.key(0), x)
    kernel: Any = params["params"]["kernel"]
    np.testing.assert_allclose(out[2, 1], np.einsum("ijc,ijco->o", x[4:7, 2:5], kernel), rtol=1e-4)
