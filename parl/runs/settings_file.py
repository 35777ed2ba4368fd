"""Reads settings from a YAML file or a run's config.json."""

import dataclasses
from pathlib import Path
from typing import Any

from parl.core.errors import ConfigError
from parl.core.yaml_text import parse_yaml
from parl.runs.config import RUN_FIELDS, RunConfig

LARGEST_FILE = 256 * 1024  # bytes
# Entries of config.json that belong to that run alone and are not taken over.
RUN_ALONE = {f.name for f in dataclasses.fields(RunConfig)} - RUN_FIELDS - {"algorithm", "env"}


def read_text(path: str | Path) -> str:
    """The text of a small file. Raises ConfigError if it cannot be read or is too large."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ConfigError(f"cannot read {path}: it has more than {LARGEST_FILE // 1024} KiB.")
        return content.decode()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}.") from error


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings in a file, by name with underscores. Raises ConfigError.

    From a run's config.json, recipe settings are merged with the others and entries that only
    identify the run are dropped.
    """
    try:
        content = parse_yaml(read_text(path))
    except ConfigError as error:
        said = str(error)
        raise ConfigError(
            said if said.startswith("cannot") else f"cannot read {path}: {said}"
        ) from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold settings as 'name: value' lines.")
    given = {str(name).replace("-", "_"): value for name, value in content.items()}
    own = given.pop("settings", {})
    if not isinstance(own, dict):
        raise ConfigError(f"{path}: settings must be names and values.")
    if "run_id" in given:
        for name in ("run_id", "versions", "schedule_steps", "schedule_from", "spec", "own_env"):
            given.pop(name, None)
    return given | {str(name).replace("-", "_"): value for name, value in own.items()}
