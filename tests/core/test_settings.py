"""Values of settings: taken as their types say, refused in one sentence, the same on every path."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parl.core.errors import ConfigError
from parl.core.settings import Setting, checked, suggestion
from parl.core.yaml_text import parse_yaml
from parl.recipes import RECIPES, recipe_class
from parl.runs.config import RunConfig, RunSettings, from_dict
from parl.runs.settings_file import read_settings


@pytest.mark.parametrize("value", [100_000, 1e5, "1e5", np.int64(100_000), np.float32(1e5)])
def test_whole_numbers_serve_as_integers(value: Any) -> None:
    steps = RunSettings(steps=value).steps
    assert steps == 100_000 and type(steps) is int


@pytest.mark.parametrize(
    "value", [3000.5, True, None, "5", "0o17", "many", [1], {}, "1e-1", np.bool_(True), b"5"]
)
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^setting 'steps' must be int, not "):
        RunSettings(steps=value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 2**31}, "steps must be at most 2,147,483,647, not 2147483648."),
        ({"steps": float("inf")}, "setting 'steps' must be int, not inf."),
        ({"steps": 10**5000}, "steps must be at most 2,147,483,647, not a int."),
        ({"eager": "no"}, "setting 'eager' must be bool, not 'no'."),
        ({"eager": 1}, "setting 'eager' must be bool, not 1."),
        ({"max_policy_lag": 1.5}, "setting 'max_policy_lag' must be int or None, not 1.5."),
        ({"keep": 0}, "keep must be at least 1, not 0."),
        ({"seed": -1}, "seed must not be negative, it is -1."),
        ({"mode": "asinc"}, "unknown mode 'asinc'. Did you mean async? Known: auto, sync, async."),
        ({"address": "a\0b"}, "address must not hold the character NUL, it is 'a\\x00b'."),
    ],
)
def test_one_sentence_says_what_is_wrong(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunSettings(**settings)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("algorithm", "name", "bad", "good"),
    [
        ("ppo", "learning_rate", (-1, float("nan"), float("inf"), 1e39), (0, 3e-4, 1)),
        ("ppo", "gamma", (1.5, -0.1, float("-inf")), (0, 0.99, 1)),
        ("ppo", "clip", (-1, 0, 1e-60), (0.2,)),
        ("ppo", "epochs", (0, -1, 2**31), (1,)),
        ("ppo", "minibatches", (0,), (4,)),
        ("ppo", "length", (0,), (1,)),
        ("ppo", "num_envs", (0, -8), (1,)),
        ("ppo", "hidden", ([-1], [0], ["a"], [32, 32.5], [10**6], 64), ([], [8.0], (8, 8))),
        ("ppo", "target_kl", (0, -1), (None, 0.02)),
        ("sac", "tau", (2, -1), (0, 1)),
        ("sac", "batch_size", (0,), (1,)),
        ("sac", "updates", (0,), (1,)),
        ("sac", "priority", (-1, float("-inf")), (0, 0.6)),
        ("sac", "n_step", (0,), (1, 3)),
        ("sac", "capacity", (0, 10**15), (1,)),
        ("sac", "warmup", (-1,), (0,)),
        ("dqn", "epsilon_end", (2, -0.1), (0, 1)),
        ("dqn", "epsilon_steps", (0,), (1,)),
    ],
)
def test_bounds_of_recipes(algorithm: str, name: str, bad: tuple, good: tuple) -> None:
    recipe: Any = recipe_class(algorithm)
    for value in bad:
        with pytest.raises(ConfigError, match=name):
            recipe().override({name: value})
    for value in good:
        found = recipe().override({name: value}).settings()[name]
        assert found == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("algorithm", RECIPES)
def test_every_setting_of_a_recipe_is_explained_and_its_own_are_within_bounds(algorithm) -> None:
    made: Any = recipe_class(algorithm)
    recipe = made()
    silent = [name for name in recipe.types() if not recipe.declared(name).doc]
    assert not silent, "settings want a line in parl/recipes/settings.py"
    assert recipe.override(recipe.settings()) == recipe


def test_numbers_of_files_are_what_they_look_like() -> None:
    said = parse_yaml(
        "[1e5, 3e-4, 1_000, 0o17, 017, 1:30, .5, -2, 2.0, '7', 2020-01-01, yes, .inf]"
    )
    assert said[:4] == [1e5, 3e-4, 1_000, "0o17"]
    assert said[4:10] == ["017", "1:30", 0.5, -2, 2.0, "7"]
    assert said[10:] == ["2020-01-01", True, float("inf")]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB, "[" * 100_000, "- 1", "a: !!python/object:os.system x", "a: !!int many", "a: [1",
        "a: !!int", "a: !!bool x", "a: !!timestamp x",
        "? [1]\n: 2\n", "a: " + "9" * 5_000, "x" * 300_000, "a: \x00", "settings: 3",
    ],
)  # fmt: skip
def test_files_that_are_no_settings_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_settings(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read"):
        read_settings(tmp_path)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read"):
        read_settings(file)


def test_a_config_of_a_run_is_a_file_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    values = {"algorithm": "ppo", "env": "jax:CartPole-v1", "steps": 64, "run_id": "x"}
    file.write_text(json.dumps(values | {"settings": {"hidden": [8]}, "versions": {"jax": "1"}}))
    expected = {"algorithm": "ppo", "env": "jax:CartPole-v1", "steps": 64, "hidden": [8]}
    assert read_settings(file) == expected


@pytest.mark.parametrize("value", [None, "a", [1], 0.5, True, {"a": 1}, 10**15, -(10**15), 1e400])
def test_a_config_with_any_value_anywhere_is_read_or_refused(value: Any) -> None:
    good = {"algorithm": "ppo", "env": "jax:CartPole-v1"}
    for name in RunConfig.__dataclass_fields__:
        try:
            from_dict(good | {name: value})
        except ConfigError as error:
            assert name in str(error) or name == "settings"
    for content in (value, [value]):
        if not isinstance(content, dict):
            with pytest.raises(ConfigError):
                from_dict(content)


def test_names_of_other_libraries_lead_to_ours() -> None:
    known = ["learning_rate", "num_envs", "steps", "length", "batch_size", "clip", "out", "env"]
    for theirs, ours in {
        "--lr": "learning_rate", "--n-envs": "num_envs", "--total-timesteps": "steps",
        "n_steps": "length", "--batch-size": "batch_size",
    }.items():  # fmt: skip
        assert suggestion(theirs, known) == f" Did you mean {ours}?"
    assert "JAX" in suggestion("--gpu", known) and "JAX" in suggestion("--device", known)


def test_a_recipe_of_ones_own_declares_its_bounds() -> None:
    assert checked("cells", 3, int, Setting(low=1)) == 3
    with pytest.raises(ConfigError, match="cells must be at least 1, not 0"):
        checked("cells", 0, int, Setting(low=1))
