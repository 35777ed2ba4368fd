"""Spaces and example arrays."""

import numpy as np
import pytest

from parl.core.errors import SpaceError
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete, example, flat_size

SPACE = {
    "image": Box((4, 5, 3), "uint8"),
    "inner": {"speed": Box(()), "mode": Discrete(3)},
    "tiles": MultiDiscrete((2, 5)),
}


def test_example_has_the_shapes_and_dtypes_of_the_space() -> None:
    tree = example(SPACE, (7, 2))
    assert tree["image"].shape == (7, 2, 4, 5, 3) and tree["image"].dtype == np.uint8
    assert tree["inner"]["speed"].shape == (7, 2) and tree["inner"]["speed"].dtype == np.float32
    assert tree["inner"]["mode"].shape == (7, 2) and tree["inner"]["mode"].dtype == np.int32
    assert tree["tiles"].shape == (7, 2, 2) and tree["tiles"].dtype == np.int32
    assert not any(x.any() for x in (tree["image"], tree["tiles"]))


def test_flat_size_counts_integers_as_one_hot() -> None:
    assert flat_size(Box((3,))) == 3
    assert flat_size(Box(())) == 1
    assert flat_size(Discrete(6)) == 6
    assert flat_size(MultiDiscrete((2, 5))) == 7
    assert flat_size(SPACE) == 60 + 1 + 3 + 7


def test_env_spec_gives_one_row_of_each() -> None:
    spec = EnvSpec("x", Box((4,)), Discrete(2), max_steps=9)
    assert spec.obs.shape == (1, 4) and spec.obs.dtype == np.float32
    assert spec.action.shape == (1,) and spec.action.dtype == np.int32
    continuous = EnvSpec("x", Box((4,)), Box((2,), low=-1.0, high=1.0))
    assert continuous.action.shape == (1, 2) and continuous.action.dtype == np.float32
    assert spec.max_steps == 9 and continuous.max_steps is None and spec.num_agents is None


def test_how_spaces_read_in_messages() -> None:
    spaces = (Box((3,)), Discrete(2), MultiDiscrete((2, 3)))
    assert [str(space) for space in spaces] == ["Box(3,)", "Discrete(2)", "MultiDiscrete([2, 3])"]


def test_spaces_compare_and_hash_by_shape() -> None:
    bounded, free = Box((2,), low=np.zeros(2), high=np.ones(2)), Box((2,))
    assert bounded == free, "bounds are arrays and have no say"
    assert hash(bounded) == hash(free)
    assert Box((2,)) != Box((2,), "uint8")
    assert Discrete(2) != Discrete(3)


def test_agents_are_an_axis_behind_the_batch() -> None:
    """Spaces of observations hold it already, that of actions is one agent's."""
    views = {"view": Box((3, 4)), "legal": Box((3, 5), "bool"), "state": Box((7,))}
    spec = EnvSpec("x", views, Discrete(5), num_agents=3, agents=("a", "b", "c"), groups=(0, 0, 1))
    assert spec.agent_shape == (3,) and spec.action.shape == (1, 3)
    assert {name: x.shape for name, x in spec.obs.items()} == {
        "view": (1, 3, 4), "legal": (1, 3, 5), "state": (1, 7),
    }  # fmt: skip
    assert EnvSpec("x", views, Box((2,)), num_agents=3).action.shape == (1, 3, 2)
    alone = EnvSpec("x", Box((4,)), Discrete(2))
    assert alone.agent_shape == () and alone.agents == alone.groups == ()


def test_a_single_agents_alive_and_turn_are_what_it_sees() -> None:
    """Flags called alive would be a mask of agents, and a turn that of a game."""
    parts = {"alive": Box((2,), "bool"), "turn": Box((2,), "bool"), "x": Box((1,))}
    spec = EnvSpec("x", parts, Discrete(2))
    assert spec.observation_space == parts | {"alive": Box((2,))}
    assert not spec.takes_turns and not spec.has_sides
    game = EnvSpec("x", parts, Discrete(2), num_agents=2)
    assert game.observation_space == parts and game.takes_turns and game.has_sides


@pytest.mark.parametrize("empty", [Box((0,)), Box((3, 0)), {}, {"goal": {}}, {"x": Box((0,))}])
def test_observations_without_numbers_are_refused(empty) -> None:
    beside = {"y": Box((2,))} | empty if isinstance(empty, dict) and empty else empty
    for space in (empty, beside):
        with pytest.raises(SpaceError, match=r"of game is .*, which holds no numbers: leave it"):
            EnvSpec("game", space, Discrete(2))
    EnvSpec("game", {"x": {"y": Box(())}}, Discrete(2))
