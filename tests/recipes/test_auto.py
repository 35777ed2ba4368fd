"""What `auto` picks, that it says so, and that a run is that of the picked algorithm."""

import json
from pathlib import Path

import pytest

import parl
from parl.cli import main
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete
from parl.envs.factory import make_factory
from parl.recipes import RECIPES, make_recipe
from parl.recipes.auto import doubt, pick
from parl.runs.build import resolve
from parl.runs.config import RunConfig

CHEAP = "hidden (128, 128), actor_hidden (128, 128), num_envs 8"
VECTOR, IMAGE, TORQUES = Box((17,)), Box((84, 84, 4), "uint8"), Box((6,), low=-1.0, high=1.0)


@pytest.mark.parametrize(
    ("observations", "actions", "in_jax", "expected"),
    [
        (VECTOR, TORQUES, False, "crossq"),
        (VECTOR, TORQUES, True, "crossq"),
        (VECTOR, Box((3,), low=-1.0, high=1.0), False, "ppo"),
        (IMAGE, TORQUES, False, "ppo"),
        ({"camera": IMAGE, "joints": VECTOR}, TORQUES, False, "ppo"),
        (VECTOR, Discrete(2), True, "ppo"),
        (VECTOR, Discrete(2), False, "ppo"),
        (IMAGE, Discrete(6), False, "dqn"),
        (IMAGE, Discrete(6), True, "ppo"),
        (VECTOR, MultiDiscrete((2, 3)), False, "ppo"),
    ],
)
def test_what_is_picked(observations, actions, in_jax: bool, expected: str) -> None:
    spec = EnvSpec("Some-v0", observations, actions)
    found = pick(spec, in_jax)
    assert found.algorithm == expected and expected in RECIPES
    assert isinstance(actions, make_recipe(expected, spec).serves)
    line = found.line(spec)
    chosen = f"crossq with {CHEAP}" if expected == "crossq" else expected
    assert line.startswith(f"auto: {chosen} for Some-v0, because it has ") and "\n" not in line


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("jax:simple_spread", "mappo"),
        ("jax:tic_tac_toe", "ippo"),
        ("jax:connect_four", "ippo"),
        ("jax:kuhn_poker", "ippo"),
        ("jax:simple_tag", "ippo"),
    ],
)
def test_games_of_several_sides_are_not_for_a_team(id: str, expected: str) -> None:
    spec = make_factory(id).spec
    assert pick(spec, True).algorithm == expected
    sentence = doubt("mappo", spec)
    assert bool(sentence) == (expected == "ippo") and "\n" not in sentence
    assert doubt("ippo", spec) == "" and doubt("vdn", spec).startswith("vdn"[: len(sentence)])


@pytest.mark.slow
def test_a_run_is_that_of_the_picked_algorithm(tmp_path: Path, capsys) -> None:
    tiny = ["--steps", "512", "--eval-episodes", "1", "--hidden", "8", "--length", "32"]
    words = ["train", "auto", "--env", "jax:CartPole-v1", "--out", str(tmp_path / "run"), *tiny]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.count("auto: ppo for jax:CartPole-v1, because it has Discrete(2) and its ") == 1
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["algorithm"], config["settings"]["length"]) == ("ppo", 32)
    settings = {"steps": 512, "eval_episodes": 1, "hidden": (8,), "length": 32}
    named = parl.train("ppo", "jax:CartPole-v1", tmp_path / "named", quiet=True, **settings)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["params_sha256"] == named.result["params_sha256"]
    assert parl.load(tmp_path / "run").config["algorithm"] == "ppo"  # type: ignore[index]


def test_a_pick_brings_its_own_settings_which_flags_override() -> None:
    factory = make_factory("jax:Pendulum-v1")
    line = pick(factory.spec, True).line(factory.spec)
    assert f"crossq with {CHEAP} for " in line
    for config, hidden in (({}, (128, 128)), ({"hidden": (8,)}, (8,))):
        parts = resolve(RunConfig("auto", "jax:Pendulum-v1", steps=100, settings=config))
        assert parts.config.algorithm == "crossq"
        assert parts.config.settings["hidden"] == hidden
        assert parts.config.settings["num_envs"] == 8


def test_quiet_runs_and_agents_pick_without_a_word(tmp_path: Path, capsys) -> None:
    parl.train(
        "auto", "jax:CartPole-v1", tmp_path / "run", quiet=True, steps=512, eval_episodes=1,
        hidden=(8,), length=32,
    )  # fmt: skip
    agent = parl.Agent.make("auto", "jax:Pendulum-v1", hidden=(8,))
    assert agent.config is not None and agent.config["algorithm"] == "crossq"
    assert capsys.readouterr().out == ""


def test_auto_needs_an_environment_and_knows_the_settings_of_its_pick(capsys) -> None:
    assert main(["train", "auto"]) == 2
    said = capsys.readouterr().err
    assert "parl: train auto needs an environment: --env HalfCheetah-v5" in said
    assert main(["train", "auto", "--env", "jax:Pendulum-v1", "--clip", "0.1"]) == 2  # PPO's
    assert "unknown flag '--clip'" in capsys.readouterr().err
    assert main(["train", "aut", "--env", "jax:Pendulum-v1"]) == 2
    assert "unknown algorithm 'aut'. Did you mean auto?" in capsys.readouterr().err


def test_the_list_shows_it(capsys) -> None:
    assert main(["list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "any" in rows["auto"]
