"""Names of environments: arguments, modules of the user's own, and what is advised."""

from pathlib import Path
from typing import Any

import pytest

import parl
from parl.core.errors import EnvError, MissingPackage, ParlError
from parl.core.spec import Discrete
from parl.envs import ids
from parl.envs.factory import make_factory


@pytest.mark.parametrize(
    ("id", "name", "arguments"),
    [
        ("CartPole-v1", "CartPole-v1", {}),
        ("a?slip=False&map=8x8", "a", {"slip": False, "map": "8x8"}),
        ("a?x=1e-3&y=2&z=None&w=", "a", {"x": 1e-3, "y": 2, "z": "None", "w": None}),
        ("m:a-v0?x=[1, 2]&y='7'", "m:a-v0", {"x": [1, 2], "y": "7"}),
        ("a?x=p%26q=%25", "a", {"x": "p&q=%"}),
        ("a?x=[1", "a", {"x": "[1"}),
    ],
)
def test_arguments_are_read_as_yaml(id: str, name: str, arguments: dict[str, Any]) -> None:
    assert ids.split(id) == (name, arguments)


@pytest.mark.parametrize("id", ["a?x", "a?=3", "a?x=1&x=2", "a?x-y=1", "a?&", "a?x=1&"])
def test_what_is_no_argument_is_refused(id: str) -> None:
    with pytest.raises(EnvError, match="arguments are name=value"):
        ids.split(id)


def test_arguments_are_added_to_an_id() -> None:
    assert ids.with_arguments("a", []) == "a"
    whole = ids.with_arguments("a?x=1", ["y=p&q", "z=50%"])
    assert ids.split(whole) == ("a", {"x": 1, "y": "p&q", "z": "50%"})


def test_arguments_reach_the_environments() -> None:
    slippery = "FrozenLake-v1?is_slippery=False&map_name=8x8"
    factory = make_factory(slippery)
    assert factory.id == factory.spec.id == slippery
    assert factory.spec.observation_space == Discrete(64)
    assert make_factory("jax:CartPole-v1?max_steps=7").spec.max_steps == 7
    with pytest.raises(EnvError, match="unexpected keyword argument 'colour'"):
        make_factory("CartPole-v1?colour=1")
    with pytest.raises(EnvError, match="unexpected keyword argument 'colour'"):
        make_factory("jax:CartPole-v1?colour=1")


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("jax:CartPole-v1?max_steps=0", "max_steps must be at least 1, not 0"),
        ("jax:CartPole-v1?max_steps=x", "setting 'max_steps' must be int, not 'x'"),
        ("jax:Pendulum-v1?max_steps=1.5", "setting 'max_steps' must be int, not 1.5"),
        ("jax:CartPole-v1?name=2", "unexpected keyword argument 'name'"),
        ("jax:simple_spread?num_agents=1001", "num_agents must be from 1 to 1000, not 1001"),
        ("jax:simple_spread-0", "num_agents must be from 1 to 1000, not 0"),
        ("jax:foraging-1x1-2p-2f", "2 players do not fit on 1 x 1"),
        ("jax:foraging-8x8-2p-2f?sight=-1", "sight must be at least 1"),
        ("jax:climbing?payoff=1", "payoff"),
        ("CartPole-v1?id=2", "argument 'id'"),
        ("pz:mpe2.simple_spread_v3?parallel=5", "parallel is True or False, not 5"),
        ("pz:mpe2.simple_spread_v3?id=5", "argument 'id'"),
    ],
)
def test_arguments_that_cannot_be_are_one_sentence(id: str, said: str) -> None:
    with pytest.raises(ParlError, match=said) as caught:
        make_factory(id)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["pz:", "ale:", "dmc:", "brax:", "jaxmarl:"])
def test_suites_are_found_whatever_the_arguments(prefix: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=rf"{prefix}a_v1\?x=1&y=\[2\] needs .*pip install"):
        make_factory(f"{prefix}a_v1?x=1&y=[2]")


@pytest.mark.parametrize("id", ["pz:", "pz:..os", ".x:Y", ":Y", "a b:C", "x:", "jax:", "?", ""])
def test_names_that_cannot_be_are_one_sentence(id: str) -> None:
    with pytest.raises(ParlError) as caught:
        make_factory(id)
    assert "\n" not in str(caught.value)


def test_modules_of_ones_own_get_no_advice_to_install_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_maze.py").write_text("import a_module_that_nobody_has\n")
    (tmp_path / "own_grid.py").write_text("1 / 0\n")
    for id in ("own_maze:Maze-v0", "pz:own_maze", "own_hills:Hills-v0", "own.hills:Hills-v0"):
        with pytest.raises(ParlError) as caught:
            make_factory(id)
        assert "pip install" not in str(caught.value)
    with pytest.raises(EnvError, match="'own_grid' could not be imported: ZeroDivisionError"):
        make_factory("own_grid:Grid-v0")
    assert "pip install 'gymnasium" in str(
        ids.missing("LunarLander-v3", ModuleNotFoundError(name="Box2D"))
    )


def test_atari_ids_of_other_libraries_lead_to_ours() -> None:
    assert ids.atari_hint("PongNoFrameskip-v4").startswith(" Use ale:Pong,")
    assert ids.atari_hint("ALE/SpaceInvaders-v5").startswith(" Use ale:SpaceInvaders,")
    assert ids.atari_hint("CartPole-v1") == ""


def test_a_module_in_the_current_directory_is_found_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from parl.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
    (tmp_path / "own_poles.py").write_text(
        "import gymnasium as gym\n"
        'gym.register("OwnPole-v0", "gymnasium.envs.classic_control:CartPoleEnv")\n'
    )
    assert main(["train", "ppo", "--env", "own_poles:OwnPole-v0", "--steps", "0"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "parl: steps must be at least 1, not 0."
    assert issubclass(MissingPackage, parl.core.errors.ParlError)
