"""A run's settings in words: what differs from the defaults, and the command that trains it."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from parl.core.spec_json import spec_from_json
from parl.recipes import make_recipe
from parl.report.metrics import plain
from parl.runs.config import RunSettings


def changed(config: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, value, default) of settings that are not the recipe's for this environment.

    What the run filled in by itself, such as when it evaluates, is none of them.
    """
    ours, filled = dataclasses.asdict(RunSettings()), filled_in(config)
    found = [
        (name, config[name], ours[name])
        for name in ours
        if name in config and plain(config[name]) not in (plain(ours[name]), filled.get(name, ours))
    ]
    if not config.get("spec"):
        return found
    recipe: Any = make_recipe(config["algorithm"], spec_from_json(config["spec"], "config.json"))
    defaults, settings = recipe.settings(), config.get("settings", {})
    return found + [
        (name, value, defaults[name])
        for name, value in settings.items()
        if name in defaults and plain(value) != plain(defaults[name])
    ]


def command(config: Mapping[str, Any]) -> str:
    """The command that trains such a run: its settings that differ from the defaults."""
    words = ["parl", "train", config["algorithm"], "--env", config["env"]]
    for name, value, _ in changed(config):
        words += flag(name, value)
    return shlex.join(words)


def filled_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values that a run gives to the settings that its command leaves open."""
    every = max(int(config.get("steps", 0)) // 10, 1)
    execution = "ray" if config.get("actors") else config.get("execution")
    return {
        "eval_every": every,
        "checkpoint_every": config.get("eval_every", every),
        "absolute_episodes": 0,
        "execution": execution,
        "mode": "sync",
        "admit_every": max(int(config.get("schedule_steps", 0)) // 50, 1),
    }


def flag(name: str, value: Any) -> list[str]:
    """A setting as words of a command."""
    name = name.rstrip("_").replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{name}", *map(str, values)]
