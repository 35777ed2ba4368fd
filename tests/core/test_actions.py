"""Actions of a network as the environment takes them: worked numbers, and nothing ever outside."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from parl.core.actions import ActionMap, number_map
from parl.core.errors import SpaceError
from parl.core.spec import Box, Discrete, MultiDiscrete
from parl.envs.adapters.gymnasium_spaces import convert_actions

INF = np.inf
Space: Any = spaces.Box


def arrays(low, high, dtype=np.float32):
    return Space(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


WORKED = {
    "bounded": (Space(2, 10, (1,)), [[-1], [0], [0.5], [1], [7], [-7]], [2, 6, 8, 10, 10, 2]),
    "symmetric": (Space(-2, 2, (1,)), [[0.5], [3]], [1, 2]),
    "one": (Space(-1, 1, (1,)), [[0.5], [3], [-3]], [0.5, 1, -1]),
    "from below": (Space(3, INF, (1,)), [[-1], [0], [2], [-9]], [3, 4, 6, 3]),
    "from above": (Space(-INF, 3, (1,)), [[1], [0], [-2], [9]], [3, 2, 0, 3]),
    "unbounded": (Space(-INF, INF, (1,)), [[5], [-3]], [5, -3]),
    "equal": (Space(4, 4, (1,)), [[-1], [1]], [4, 4]),
    "scalar": (Space(0, 10, ()), [[0], [1], [-5]], [5, 10, 0]),
    "integers": (Space(0, 10, (1,), np.int32), [[0], [0.33], [9], [-1]], [5, 7, 10, 0]),
    "bytes": (Space(0, 255, (1,), np.uint8), [[-1], [1], [3]], [0, 255, 255]),
    "halves": (Space(0, 1, (1,), np.float16), [[-1], [0.5], [2]], [0, 0.75, 1]),
    "doubles": (Space(0, 0.3, (1,), np.float64), [[1], [0], [-1]], [0.3, 0.15, 0]),
}


@pytest.mark.parametrize("name", WORKED)
def test_numbers_become_the_environments(name: str) -> None:
    space, actions, expected = WORKED[name]
    network, action_map = convert_actions(space)
    assert network == Box((1,))
    taken = action_map.split(np.array(actions, np.float32))
    for one, value in zip(taken, expected, strict=True):
        assert space.contains(one) and one.shape == space.shape and one.dtype == space.dtype
        np.testing.assert_allclose(one, value, rtol=1e-6)


def test_components_have_their_own_bounds_and_axes() -> None:
    space = arrays([[0, -INF, -1], [-INF, 2, 5]], [[INF, 1, 1], [INF, 2, 9]])
    network, action_map = convert_actions(space)
    assert isinstance(network, Box) and network == Box((6,))
    np.testing.assert_array_equal(network.low, [-1, -INF, -1, -INF, -1, -1])
    np.testing.assert_array_equal(network.high, [INF, 1, 1, INF, 1, 1])
    (taken,) = action_map.split(np.array([[0.5, 0.5, 0.5, 7, 0.5, 0.5]], np.float32))
    np.testing.assert_array_equal(taken, [[1.5, 0.5, 0.5], [7, 2, 8]])
    assert space.contains(taken)


ODD = {
    "huge": Space(-3e38, 3e38, (2,)),
    "huge from 0": Space(0, 3.4e38, (2,)),
    "huge doubles": Space(-1.7e308, 1.7e308, (2,), np.float64),
    "mixed": arrays([-3, 0, -INF, -INF, 7], [5, INF, 2, INF, 7]),
    "axes": Space(-2, 3, (2, 3)),
    "scalar from below": Space(1, INF, ()),
    "unbounded halves": Space(-INF, INF, (2,), np.float16),
    "integers from below": Space(0, INF, (2,), np.int64),
    "all integers": Space(-INF, INF, (2,), np.int64),
    "most integers": Space(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (2,), np.int64),
    "unsigned": Space(0, np.iinfo(np.uint64).max, (2,), np.uint64),
    "small integers": Space(-128, 127, (2, 2), np.int8),
    "uneven": arrays([0.1, -0.7], [0.3, 0.9]),
    "discrete": spaces.Discrete(3, start=5),
    "below 0": spaces.Discrete(3, start=-4),
    "multi": spaces.MultiDiscrete([3, 4], start=[1, -2]),
    "matrix": spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    "flags": spaces.MultiBinary(3),
    "flag matrix": spaces.MultiBinary((2, 2)),
}


def network_actions(space: Box | Discrete | MultiDiscrete, count: int) -> np.ndarray:
    """Actions of networks: any numbers, or any choices."""
    rng = np.random.default_rng(0)
    if isinstance(space, Box):
        numbers = rng.normal(size=(count, *space.shape)) * 10.0 ** rng.integers(-3, 30, (count, 1))
        return numbers.astype(np.float32)
    sizes = space.n if isinstance(space, Discrete) else space.nvec
    return rng.integers(0, sizes, (count, *space.shape)).astype(np.int32)


@pytest.mark.parametrize("name", ODD)
def test_no_action_leaves_the_space_and_the_map_survives_json(name: str) -> None:
    space = ODD[name]
    network: Any
    network, action_map = convert_actions(space)
    actions = network_actions(network, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        taken = action_map.split(actions)
    assert all(space.contains(one) for one in taken)
    copy = ActionMap.from_json(json.loads(json.dumps(action_map.to_json(), allow_nan=False)))
    assert (copy.shape, copy.dtype) == (action_map.shape, action_map.dtype)
    np.testing.assert_array_equal(copy(actions), action_map(actions))
    assert action_map(actions).dtype == space.dtype
    back = action_map.back(np.stack(taken))
    assert back.dtype == actions.dtype and back.shape == actions.shape
    if not isinstance(space, Space):
        np.testing.assert_array_equal(back, actions)


def test_back_is_the_inverse_inside_the_bounds() -> None:
    _, action_map = convert_actions(arrays([2, 3, -INF, -INF, 4], [10, INF, 3, INF, 4]))
    actions = np.array([[0.5, 2, -2, 5, 0], [-1, -1, 1, -5, 0]], np.float32)
    np.testing.assert_array_equal(action_map.back(action_map(actions)), actions)


def test_actions_that_are_not_of_the_space_are_refused() -> None:
    _, action_map = convert_actions(spaces.Discrete(3, start=5))
    with pytest.raises(ValueError, match="not one of the space"):
        action_map.back(np.array([4]))
    with pytest.raises(ValueError, match="have the shape"):
        action_map.back(np.array([[5]]))


@pytest.mark.parametrize(
    ("space", "hint"),
    [
        (spaces.Dict(a=spaces.Discrete(2), b=Space(0, 1, (2,))), "TransformAction"),
        (spaces.Tuple((spaces.Discrete(2), Space(0, 1, (2,)))), "TransformAction"),
        (spaces.Text(3), "TransformAction"),
        (Space(0, 1, (0,)), "no numbers"),
        (Space(0, 1, (2,), np.bool_), "MultiBinary"),
    ],
)
def test_spaces_that_are_not_served_say_what_to_do(space: spaces.Space, hint: str) -> None:
    with pytest.raises(SpaceError, match=hint):
        convert_actions(space)


def test_jax_actions_are_mapped_as_numpys_are() -> None:
    import jax.numpy as jnp

    _, action_map = number_map(-2.0, 6.0, (2, 2), "float32")
    actions = np.array([[-1, 0, 0.5, 9]], np.float32)
    np.testing.assert_array_equal(action_map(jnp.array(actions)), [[[-2, 2], [4, 6]]])
    np.testing.assert_array_equal(action_map(actions), [[[-2, 2], [4, 6]]])
