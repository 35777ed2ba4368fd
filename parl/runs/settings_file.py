"""Settings in a file, YAML or a run's config.json."""

import dataclasses
from pathlib import Path
from typing import Any

from parl.core.errors import ConfigError
from parl.core.yaml_text import parse_yaml
from parl.runs.config import RUN_FIELDS, RunConfig

LARGEST_FILE = 256 * 1024  # bytes
# what a run's config.json has beside settings: no other run is to take it over
RUN_ALONE = {f.name for f in dataclasses.fields(RunConfig)} - RUN_FIELDS - {"algorithm", "env"}


def read_text(path: str | Path) -> str:
    """A small file. Raises ConfigError where it cannot be read, or is none."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ConfigError(f"cannot read {path}: it has more than {LARGEST_FILE // 1024} KiB.")
        return content.decode()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}.") from error


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings of a file, by their names with underscores; those of a run's config.json, too.

    Such a run's recipe settings stand beside the others, and what only names the run is left out.
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
