"""From any observation space to one feature vector."""

from typing import Any

import jax
import numpy as np
import pytest
from observations import SPACES, draw

from parl.core.errors import SpaceError
from parl.core.spec import Box, Discrete, MultiDiscrete, image_axes, is_grid
from parl.models import Encoder
from parl.models.encoder import is_image


def encode(space: Any, obs: Any) -> np.ndarray:
    net: Any = Encoder(space)
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


def test_grids_of_truth_values_pass_a_small_convolution() -> None:
    """MinAtar's network: 8 x 8 x 16 features before the layer of 128; masks are no grids."""
    space = {"grid": Box((10, 10, 4), "bool"), "legal": Box((5,), "bool")}
    net: Any = Encoder(space["grid"])
    obs = draw(space["grid"], (3,))
    params = net.init(jax.random.key(0), obs)
    sizes = sorted(x.size for x in jax.tree.leaves(params))
    assert sizes == [16, 128, 9 * 4 * 16, 8 * 8 * 16 * 128]
    assert net.apply(params, obs).shape == (3, 128)
    assert is_image(space) and is_grid(space["grid"])
    assert not is_grid(Box((10, 10, 4), "uint8")) and not is_image(Box((4, 4, 3), "bool"))
    assert encode(Box((3, 3, 2), "bool"), np.ones((1, 3, 3, 2), bool)).shape == (1, 18)


def test_normalised_convolutions_do_not_depend_on_the_scale_of_what_they_see() -> None:
    """PQN's network: a scale and an offset for each channel and feature, and none for vectors."""
    net: Any = Encoder(Box((6, 6, 2), "bool"), layer_norm=True)
    obs = np.ones((1, 6, 6, 2), np.float32)
    params = net.init(jax.random.key(0), obs)
    sizes = sorted(x.size for x in jax.tree.leaves(params))
    assert sizes == [16] * 3 + [128] * 3 + [9 * 2 * 16, 4 * 4 * 16 * 128]
    features = net.apply(params, obs)
    np.testing.assert_allclose(net.apply(params, 3 * obs), features, atol=1e-3)
    assert (
        Encoder(SPACES["vector"], layer_norm=True).init(jax.random.key(0), np.zeros((1, 3))) == {}
    )


def test_a_vector_costs_no_parameters() -> None:
    assert Encoder(SPACES["vector"]).init(jax.random.key(0), np.zeros((1, 3), np.float32)) == {}


@pytest.mark.parametrize("lead", [(), (2, 3)])
@pytest.mark.parametrize("name", SPACES)
def test_any_leading_axes(name: str, lead: tuple[int, ...]) -> None:
    space = SPACES[name]
    obs = draw(space, lead)
    net: Any = Encoder(space)
    params = net.init(jax.random.key(0), obs)
    features = net.apply(params, obs)
    assert features.shape[:-1] == lead and features.ndim == len(lead) + 1
    first = net.apply(params, jax.tree.map(lambda x: x[(0,) * len(lead)], obs))
    np.testing.assert_allclose(features[(0,) * len(lead)], first, rtol=1e-4, atol=1e-6)


def test_images_and_what_is_none() -> None:
    assert is_image(Box((8, 8, 1), "uint8"))
    assert is_image({"x": Box((8, 8, 1), "uint8"), "legal": Box((4,), "bool")})
    assert not is_image({"x": Box((8, 8, 1), "uint8"), "y": Box((4,))})
    assert not is_image(Box((8, 8, 1)))
    assert not is_image(Box((8, 8), "uint8"))
    assert not is_image(Discrete(8))


def test_only_masks_are_not_looked_at() -> None:
    """Whatever else is called `legal` is an observation, at any depth."""
    seen = encode(
        {"legal": Box((2,)), "x": Box((1,))}, {"legal": np.ones((1, 2)), "x": np.array([[7.0]])}
    )
    np.testing.assert_array_equal(seen, [[1, 1, 7]])
    nested = {"task": {"legal": MultiDiscrete((2,)), "y": Box((1,))}}
    obs = {"task": {"legal": np.array([[1]]), "y": np.array([[5.0]])}}
    np.testing.assert_array_equal(encode(nested, obs), [[0, 1, 5]])


LAYOUTS = [
    ((84, 84, 4), (0, 1, 2)),
    ((4, 84, 84), (1, 2, 0)),
    ((3, 96, 96), (1, 2, 0)),
    ((4, 96, 96, 3), (1, 2, 0, 3)),
    ((4, 84, 84, 1), (1, 2, 0, 3)),
    ((4, 3, 64, 64), (2, 3, 0, 1)),
    ((210, 160, 3), (0, 1, 2)),
    ((16, 16, 3), (0, 1, 2)),
    ((84, 84), (0, 1)),
]


@pytest.mark.parametrize("shape, axes", LAYOUTS)
def test_layouts_of_images(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    for bounds in ((0, 255), (-np.inf, np.inf), (0, 1)):
        assert image_axes(Box(shape, "uint8", *bounds)) == (
            axes if len(axes) > 2 or bounds[1] > 1 else None
        )
    assert image_axes(Box(shape, "float32", 0, 1)) == (axes if len(axes) > 2 else None)
    assert image_axes(Box(shape, "float32")) is image_axes(Box(shape, "uint8", 0, 2)) is None
    params = jax.eval_shape(
        lambda: Encoder(Box(shape, "uint8")).init(jax.random.key(0), np.zeros(shape, np.uint8))
    )
    sizes = [x.size for x in jax.tree.leaves(params)]
    assert sum(sizes) < 2.5e6
    first = params["params"]["NatureCNN_0"]["Conv_0"]["kernel"].shape
    channels = int(np.prod([shape[axis] for axis in axes[2:]]))
    assert first == ((3, 3, channels, 32) if shape == (16, 16, 3) else (8, 8, channels, 32))


def test_every_layout_shows_the_same_picture() -> None:
    last = np.random.default_rng(0).integers(256, size=(2, 16, 20, 3)).astype(np.uint8)
    net: Any = Encoder(Box(last.shape[1:], "uint8"))
    params = net.init(jax.random.key(0), last)
    expected = np.asarray(net.apply(params, last))
    first = np.moveaxis(last, -1, 1)
    for obs in (first, np.moveaxis(last, -1, 1)[..., None]):
        seen: Any = Encoder(Box(obs.shape[1:], "uint8", 0, 255)).apply(params, obs)
        np.testing.assert_allclose(seen, expected, rtol=1e-3, atol=1e-5)
    fractions: Any = Encoder(Box(first.shape[1:], "float32", 0, 1)).apply(
        params, first / np.float32(255)
    )
    np.testing.assert_allclose(fractions, expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(
        SpaceError, match=r"shape \(2, 16, 20, 3\) were given where Box\(3, 16, 20\)"
    ):
        Encoder(Box((3, 16, 20), "uint8")).apply(params, last)


def test_bytes_of_zero_and_one_are_not_divided() -> None:
    planes = np.random.default_rng(0).integers(2, size=(1, 8, 8, 2)).astype(np.uint8)
    net: Any = Encoder(Box((8, 8, 2), "uint8", 0, 1))
    params = net.init(jax.random.key(0), planes)
    floats = Encoder(Box((8, 8, 2), "float32", 0, 1)).apply(params, planes.astype(np.float32))
    np.testing.assert_array_equal(net.apply(params, planes), floats)


def test_what_was_achieved_is_no_feature_where_a_goal_is_asked_for() -> None:
    parts = ("achieved_goal", "desired_goal", "observation")
    space = {name: Box((1,)) for name in parts}
    obs = {name: np.array([[i]], np.float32) for i, name in enumerate(parts)}
    np.testing.assert_array_equal(encode(space, obs), [[1, 2]])
    del space["desired_goal"]
    np.testing.assert_array_equal(encode(space, obs), [[0, 2]])
