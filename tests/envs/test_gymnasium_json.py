"""Spaces survive JSON, whatever their bounds."""

import json
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from parl.core.errors import ConfigError, SpaceError
from parl.core.spec import EnvSpec
from parl.core.spec_json import spec_from_json, spec_to_json
from parl.envs.adapters.gymnasium_json import describe, space_of
from parl.envs.adapters.gymnasium_spaces import convert_actions, convert_space

INF, MOST = np.inf, np.iinfo(np.int64).max
Box = spaces.Box


def arrays(low: list, high: list, dtype: type, given: type | None = None) -> Box:
    return Box(np.array(low, given or dtype), np.array(high, given or dtype), dtype=dtype)


BOOL: Any = np.bool_
SPACES = [
    Box(-1, 1, (3,)),
    Box(0, 255, (8, 8, 3), np.uint8),
    Box(-INF, INF, (2,)),
    Box(0, INF, (2,), np.int64),
    Box(-INF, INF, (2,), np.int32),
    arrays([0, -INF], [INF, 2], np.float64),
    arrays([0.1, -INF], [INF, 0.2], np.float32),
    arrays([0, -3], [4, 2], np.int16),
    arrays([1, MOST - 4], [3, MOST], np.int64),
    Box(0, 1, (), np.float16),
    Box(0, 1, (3,), BOOL),
    Box(np.array([0, 1], bool), np.array([1, 1], bool), dtype=BOOL),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    spaces.MultiDiscrete([3, 4], start=[1, 2], dtype=np.int32),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 2)),
    spaces.Dict(a=Box(-1, 1, (2,)), b=spaces.Dict(c=spaces.Discrete(3))),
    spaces.Tuple((spaces.Discrete(2), Box(0, 1, (1,)))),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_is_itself_again(space: spaces.Space) -> None:
    again = space_of(json.loads(json.dumps(describe(space), allow_nan=False)))
    assert again == space
    if isinstance(space, Box) and isinstance(again, Box):
        np.testing.assert_array_equal(again.bounded_below, space.bounded_below)
        np.testing.assert_array_equal(again.bounded_above, space.bounded_above)


def test_spaces_without_a_shape_are_refused() -> None:
    with pytest.raises(SpaceError, match="not supported"):
        describe(spaces.Text(3))
    with pytest.raises(ValueError, match="not a space"):
        space_of({"type": "Text"})
    for empty in (spaces.Dict(), spaces.Tuple(()), spaces.Dict(x=SPACES[0], y=spaces.Dict())):
        with pytest.raises(SpaceError, match="is empty"):
            convert_space(empty)


@pytest.mark.parametrize("space", SPACES[5:8], ids=str)
def test_a_spec_is_itself_again(space: Box) -> None:
    observed = spaces.Dict(x=Box(np.zeros(2), np.array([1, INF]), dtype=np.float64), y=SPACES[13])
    actions, action_map = convert_actions(space)
    seen = convert_space(observed)
    spec = EnvSpec("own", seen, actions, 7, action_map=action_map, native={"a": 1})
    stored = json.loads(json.dumps(spec_to_json(spec), allow_nan=False))
    again = spec_from_json(stored, "here")
    assert again == spec and spec_to_json(again) == spec_to_json(spec)
    assert again.native == {"a": 1}


@pytest.mark.parametrize("broken", [None, [], {}, {"id": 3}, "x", {"id": "a", "action_map": {}}])
def test_what_is_no_spec_is_one_sentence(broken: object) -> None:
    with pytest.raises(ConfigError, match=r"here does not hold the spaces"):
        spec_from_json(broken, "here")
