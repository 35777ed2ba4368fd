"""Runs that learn from a data set: what they are told of it, and its steps as replay holds them."""

import dataclasses
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from parl.agents.execution.offline import Data
from parl.agents.learner import FromData, Learner
from parl.agents.replay.ring import Layout
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError, DataError
from parl.core.memory import available_memory
from parl.core.spec import EnvSpec
from parl.core.spec_json import spec_to_json
from parl.core.types import Rollout, Step
from parl.datasets.card import Card
from parl.datasets.episode import steps_of
from parl.datasets.reader import DataSet, open_data
from parl.envs.factory import EnvFactory, stored_factory
from parl.recipes import RECIPES, recipe_class
from parl.recipes.base import OffPolicyRecipe, Recipe
from parl.runs.config import RunConfig

UPDATES = 10  # of an iteration without an environment: round numbers of updates stay
SPAN = 1_000.0  # of the returns in data, where an algorithm scales rewards
HELD = 0.4  # share of the free memory that the steps may take before they lie in a file


def with_data(config: RunConfig, has_env: bool) -> RunConfig:
    """The config of a new run, with what follows from its data. Raises ConfigError, DataError.

    Its steps become those of both phases, updates on the data and steps online.
    """
    if config.record:
        config = dataclasses.replace(config, record=str(Path(config.record).resolve()))
    if not config.data:
        if config.online_steps:
            raise ConfigError("online_steps follow updates on a data set: add --data DIR.")
        if not config.steps:
            raise ConfigError("steps must be at least 1, not 0.")
        return config
    if config.online_steps and not has_env:
        raise ConfigError(
            "online_steps need an environment to step: add --env ID, or leave out --online-steps."
        )
    if not config.steps + config.online_steps:
        raise ConfigError("a run on data needs --steps, its updates, or --online-steps.")
    if config.opponent:
        raise ConfigError("a run on data has no opponents: leave out --data or --opponent.")
    if config.actors and not config.online_steps:
        raise ConfigError("no environment is stepped in a run on data: leave out --actors.")
    source = open_data(config.data)
    config = dataclasses.replace(
        config,
        data=str(Path(config.data).resolve()),
        data_steps=config.steps,
        steps=config.steps + config.online_steps,
    )
    if has_env:
        return config
    spec = source.spec()
    told = {"env": spec.id, "spec": spec_to_json(spec), "eval_env": "none"}
    return dataclasses.replace(config, **told, without_env=True)


def known_by_data(path: str | Path) -> EnvFactory:
    """The environment of a data set, which cannot be stepped."""
    spec = open_data(path).spec()
    return stored_factory(spec, spec.id)


def check_learns(algorithm: str, recipe: Recipe, data: str) -> None:
    """Raises ConfigError where an algorithm cannot learn from data, or only can."""
    if data and not (isinstance(recipe, OffPolicyRecipe) and recipe.takes_data):
        able = [name for name in RECIPES if takes_data(name)]
        raise ConfigError(
            f"{algorithm} learns only from what its own policy has just done, not from a data set; "
            f"with --data use one of {', '.join(able)}."
        )
    if not data and recipe.needs_data:
        raise ConfigError(f"{algorithm} learns from a data set: add --data DIR.")


def takes_data(algorithm: str) -> bool:
    """Whether a built-in algorithm can learn from data."""
    kind = recipe_class(algorithm)
    return issubclass(kind, OffPolicyRecipe) and kind.takes_data and not kind.multi_agent


def for_data(recipe: Recipe, config: RunConfig, source: DataSet, spec: EnvSpec) -> Recipe:
    """The recipe for a run on data: no warm-up, and iterations of UPDATES without an environment.

    A large data set lies in host memory. What was asked for stays. Raises ConfigError where steps
    online would follow that the algorithm cannot learn from.
    """
    if config.online_steps and recipe.only_data:
        raise ConfigError(
            f"{config.algorithm} learns from the whole episodes of a data set alone: leave out "
            "--online-steps."
        )
    changes: dict[str, Any] = {"warmup": 0}
    if not config.online_steps:
        changes |= {"num_envs": 1, "length": UPDATES, "updates": UPDATES}
        changes |= {"capacity": max(source.most_steps(), 1)}
    if "reward_scale" in recipe.types():
        least, most = source.returns()
        changes["reward_scale"] = SPAN / (most - least or SPAN)
    if "target_return" in recipe.types():
        least, most = source.returns()
        changes |= {"target_return": most, "return_scale": max(abs(least), abs(most)) or 1.0}
    if is_large(source, spec):
        changes["replay_on_host"] = True
    return recipe.override({k: x for k, x in changes.items() if k not in config.settings})


def learner_on(learner: Learner, config: RunConfig) -> Learner:
    """The learner that fills its batches from data, if a run has some."""
    if not config.data:
        return learner
    own = {f.name: getattr(learner, f.name) for f in dataclasses.fields(learner)}
    return FromData(**own, share=config.data_share if config.online_steps else 1.0)


def packed(source: DataSet, spec: EnvSpec, algorithm: Algorithm, folder: Path | None) -> Data:
    """All steps of a data set as replay holds them.

    What is larger than a share of the free memory lies in a file of `folder` that goes with the
    process. Raises DataError for data that are damaged, of other spaces or hold NaN.
    """
    sha256, room = source.sha256(), source.most_steps()
    rows, layout, count = {}, None, 0
    for steps in blocks(source, spec):
        items = items_of(algorithm, steps)
        if layout is None:
            layout = Layout.of(items)
            rows = empty_rows(layout, room, folder)
        size = len(steps.first)
        for name, block in layout.pack(items, np).items():
            rows[name][count : count + size] = block
        count += size
    if layout is None:
        raise DataError(f"{source.path} holds no step.")
    return Data({name: row[:count] for name, row in rows.items()}, layout, sha256)


def blocks(source: DataSet, spec: EnvSpec) -> Iterator[Step]:
    """The steps of each episode. Raises DataError where they hold NaN or infinity."""
    for number, episode in enumerate(source.episodes()):
        steps = steps_of(episode, spec, source.path)
        for path, leaf in jax.tree.leaves_with_path(steps):
            if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                where = jax.tree_util.keystr(path).lstrip(".")
                raise DataError(
                    f"{source.path} holds NaN or infinity in the {where} of episode {number}: mend "
                    "the file or leave that episode out; 'parl data check' finds all of them."
                )
        yield steps


def items_of(algorithm: Algorithm, steps: Step) -> Any:
    """What replay holds of steps [T, ...]: single steps. Raises ConfigError for other items."""
    rollout = Rollout(jax.tree.map(lambda x: x[:, None], steps), ())
    items = algorithm.items(rollout)
    if not isinstance(items, Step) or len(items.first) != len(steps.first):
        raise ConfigError(
            f"{type(algorithm).__name__} learns from whole rollouts, not from the single steps of "
            "a data set."
        )
    return items


def empty_rows(layout: Layout, count: int, folder: Path | None) -> dict[str, Any]:
    """Arrays [count, D] to be filled."""
    shapes = {name: (count, width) for name, width in layout.widths().items()}
    size = sum(math.prod(shape) * np.dtype(name).itemsize for name, shape in shapes.items())
    if size <= HELD * available_memory():
        return {name: np.empty(shape, name) for name, shape in shapes.items()}
    rows = {}
    for name, shape in shapes.items():
        with tempfile.TemporaryFile(dir=folder) as file:
            rows[name] = np.memmap(file, name, "w+", shape=shape)
    return rows


def normalized(card: Card, result: dict[str, Any]) -> float | None:
    """The return of a result where random play is 0 and the expert's 100; None if not known."""
    known, told = card.reference, result.get("return")
    if not told or not {"random", "expert"} <= known.keys():
        return None
    return 100 * (told["mean"] - known["random"]) / (known["expert"] - known["random"])


def is_large(source: DataSet, spec: EnvSpec) -> bool:
    """Whether the steps of a data set have to lie in a file, and replay in host memory."""
    steps = steps_of(source.first(), spec, source.path)
    each = sum(leaf[0].nbytes for leaf in jax.tree.leaves(steps))
    return each * source.most_steps() > HELD * available_memory()
