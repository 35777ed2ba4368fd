"""Studies: algorithms x tasks x seeds, in one YAML file each.

    title: What is compared
    at: [50_000]                      # steps to report beside the last
    defaults: {steps: 100_000, num_seeds: 3}
    cells:
      - {algorithm: [sac, td3], env: HalfCheetah-v4}
      - {algorithm: crossq, env: HalfCheetah-v4, label: crossq 512, hidden: [512, 512]}

A row is one cell for each combination of its algorithms, environments and seeds. Everything else
in it goes to `parl.train`: settings of the run, such as `steps`, and of the recipe, such as
`hidden`. With `num_seeds: 3` seeds train together, with `seed: [0, 1, 2]` one after the other.
Cells that differ in their seeds alone are reported as one: so seeds are added to a study.
"""

import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parl.core.errors import ConfigError
from parl.core.yaml_text import parse_yaml
from parl.runs.build import Parts, resolve
from parl.runs.config import RUN_FIELDS, RunConfig

STUDIES = Path(__file__).parent / "studies"
NOTE = "cell.json"  # in a run directory: the cell, its cost and the commits it ran on


@dataclass(frozen=True)
class Cell:
    """One run of some seeds."""

    algorithm: str
    env: str
    label: str  # of its curve and its rows: the algorithm, if the study says nothing else
    settings: dict[str, Any]  # what parl.train gets beside

    @property
    def name(self) -> str:
        """The name of its run directory."""
        seed = f"-seed-{self.settings['seed']}" if "seed" in self.settings else ""
        return re.sub(r"[^\w.-]+", "-", f"{self.label}-{self.env}{seed}")

    @property
    def but_seeds(self) -> dict[str, Any]:
        """Its settings, those of seeds left out."""
        return {k: v for k, v in self.settings.items() if k not in ("seed", "num_seeds")}

    @property
    def identity(self) -> dict[str, Any]:
        """What tells its run from another."""
        return {"algorithm": self.algorithm, "env": self.env, "settings": self.settings}

    @property
    def command(self) -> str:
        """The same run by hand."""
        words = ["parl", "train", self.algorithm, "--env", self.env]
        for name, value in self.settings.items():
            values = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
        return shlex.join(words)

    def parts(self) -> Parts:
        """What it is made of. Raises a ParlError for a setting that does not exist or fit."""
        given = {name: value for name, value in self.settings.items() if name in RUN_FIELDS}
        rest = {name: value for name, value in self.settings.items() if name not in RUN_FIELDS}
        return resolve(RunConfig(self.algorithm, self.env, settings=rest, **given))


@dataclass(frozen=True)
class Study:
    """A table of cells."""

    name: str
    title: str
    at: tuple[int, ...]  # steps to report beside the last
    cells: tuple[Cell, ...]


def load(study: str) -> Study:
    """A study by its name in studies/ or by the path of its file. Raises ConfigError."""
    path = Path(study) if study.endswith((".yaml", ".yml")) else STUDIES / f"{study}.yaml"
    try:
        content = parse_yaml(path.read_text())
    except (OSError, ConfigError) as error:
        known = ", ".join(sorted(p.stem for p in STUDIES.glob("*.yaml")))
        said = " ".join(str(error).split())
        raise ConfigError(f"cannot read the study {path}: {said}. Known: {known}.") from error
    if not isinstance(content, dict) or not content.get("cells"):
        raise ConfigError(f"{path} must hold 'cells:' and may hold title, at and defaults.")
    if odd := content.keys() - {"title", "at", "defaults", "cells"}:
        raise ConfigError(f"{path} has the unknown key '{sorted(odd)[0]}'.")
    defaults = content.get("defaults", {})
    cells = tuple(cell for row in content["cells"] for cell in expand(defaults | row))
    names = [cell.name for cell in cells]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"{path} has two cells called {twice}: give one of them a 'label' or 'seed'."
        )
    kinds: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        first = kinds.setdefault((cell.label, cell.env), cell)
        if cell.but_seeds != first.but_seeds:
            raise ConfigError(
                f"{path} has the cells {first.name} and {cell.name}, which differ in more than "
                "their seeds: give one of them a 'label'."
            )
    return Study(path.stem, content.get("title", path.stem), tuple(content.get("at", ())), cells)


def expand(row: dict[str, Any]) -> list[Cell]:
    """The cells of a row."""
    settings = dict(row)
    algorithms, envs = (as_list(settings.pop(name, [])) for name in ("algorithm", "env"))
    if not algorithms or not envs:
        raise ConfigError(f"a row of a study needs an algorithm and an env, not only {row}.")
    label, seeds = settings.pop("label", None), as_list(settings.pop("seed", 0))
    first = lambda seed: {"seed": seed} if seed else {}  # 0 is nothing said
    return [
        Cell(algorithm, env, label or algorithm, settings | first(seed))
        for algorithm, env, seed in itertools.product(algorithms, envs, seeds)
    ]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
