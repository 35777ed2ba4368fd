"""From any observation space to one feature vector."""

from typing import Any

import jax
import numpy as np
import pytest
from observations import SPACES, draw

from parl.core.spec import Box, Discrete, MultiDiscrete
from parl.models import Encoder
from parl.models.encoder import is_image


def encode(space: Any, obs: Any) -> np.ndarray:
    net = Encoder(space)
    return np.asarray(net.apply(net.init(jax.random.key(0), obs), obs))


def test_boxes_are_flattened() -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    np.testing.assert_array_equal(encode(Box((2, 3)), x), x.reshape(2, 6))
    np.testing.assert_array_equal(encode(Box(()), x[:, 0, 0]), [[0.0], [6.0]])


def test_integers_are_one_hot() -> None:
    np.testing.assert_array_equal(
        encode(Discrete(3), np.array([2, 0], np.int32)), [[0, 0, 1], [1, 0, 0]]
    )
    obs = np.array([[1, 2], [0, 0]], np.int32)
    np.testing.assert_array_equal(
        encode(MultiDiscrete((2, 3)), obs), [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]]
    )


def test_dicts_are_joined_by_name_without_masks() -> None:
    space = {"z": Box((1,)), "a": Discrete(2), "legal": Box((2,), "bool")}
    obs = {
        "z": np.array([[7.0]], np.float32),
        "a": np.array([1], np.int32),
        "legal": np.array([[True, False]]),
    }
    np.testing.assert_array_equal(encode(space, obs), [[0, 1, 7]])


def test_images_in_a_dict_pass_the_convolutions() -> None:
    space = {"image": Box((8, 8, 1), "uint8"), "x": Box((2,))}
    obs = draw(space, (3,))
    features = encode(space, obs)
    assert features.shape == (3, 512 + 2)
    np.testing.assert_array_equal(features[:, 512:], obs["x"])


def test_a_vector_costs_no_parameters() -> None:
    assert Encoder(SPACES["vector"]).init(jax.random.key(0), np.zeros((1, 3), np.float32)) == {}


@pytest.mark.parametrize("lead", [(), (2, 3)])
@pytest.mark.parametrize("name", SPACES)
def test_any_leading_axes(name: str, lead: tuple[int, ...]) -> None:
    space = SPACES[name]
    obs = draw(space, lead)
    net = Encoder(space)
    params = net.init(jax.random.key(0), obs)
    features = net.apply(params, obs)
    assert features.shape[:-1] == lead and features.ndim == len(lead) + 1
    first = net.apply(params, jax.tree.map(lambda x: x[(0,) * len(lead)], obs))
    np.testing.assert_allclose(features[(0,) * len(lead)], first, rtol=1e-4, atol=1e-6)


def test_only_bytes_of_three_axes_are_images() -> None:
    assert is_image(Box((8, 8, 1), "uint8"))
    assert not is_image(Box((8, 8, 1)))
    assert not is_image(Box((8, 8), "uint8"))
    assert not is_image(Discrete(8))
