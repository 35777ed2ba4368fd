"""Names of modules in version 0.1, which stay importable until 0.3."""

import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

RUNS = (
    "budget build clock config crossplay episodes evaluation hooks interruption judge meter "
    "opponents preparation remarks result schedules session settings_file sizes"
)
SHARED_ALGORITHMS = "actor_critic critics minibatches q_learning"
WRAPPERS = "match normalized resets self_play"
SHARED_RECIPES = "actor_critic control memory multi_agent"
CLASSIC = "acrobot cartpole mountain_car pendulum"
ADAPTERS = (
    "atari brax_suite control_suite gymnasium gymnasium_checks gymnasium_json gymnasium_masks "
    "gymnasium_spaces gymnasium_state gymnasium_team jaxmarl_suite mujoco_log pettingzoo resilient "
    "to_pettingzoo"
)


def within(names: str, old: str, new: str) -> dict[str, str]:
    """Modules that kept their names but moved to another package."""
    return {f"{old}.{name}": f"{new}.{name}" for name in names.split()}


MOVED = {
    **within(RUNS, "parl", "parl.runs"),
    **within(SHARED_ALGORITHMS, "parl.algorithms", "parl.algorithms.shared"),
    **within(WRAPPERS, "parl.algorithms", "parl.algorithms.wrappers"),
    **within(SHARED_RECIPES, "parl.recipes", "parl.recipes.shared"),
    **within(CLASSIC, "parl.envs", "parl.envs.classic"),
    **within(ADAPTERS, "parl.envs", "parl.envs.adapters"),
    "parl.run_dir": "parl.runs.directory",
    "parl.run_checkpoints": "parl.runs.checkpoints",
    "parl.training": "parl.runs.trainer",
    "parl.logging": "parl.report.metrics",
    "parl.progress": "parl.report.progress",
    "parl.plotting": "parl.report.plotting",
    "parl.announce": "parl.report.announce",
    "parl.flags": "parl.cli.flags",
    "parl.catalogue": "parl.cli.catalogue",
    "parl.cluster_table": "parl.cli.cluster_table",
    "parl.agents.fused": "parl.agents.execution.fused",
    "parl.agents.host": "parl.agents.execution.collector",
    "parl.agents.distributed": "parl.agents.execution.pooled",
    "parl.agents.streaming": "parl.agents.execution.streamed",
    "parl.agents.pool": "parl.agents.execution.pool",
    "parl.agents.ended": "parl.agents.execution.ended",
    "parl.agents.sampling": "parl.agents.replay.sampling",
    "parl.agents.priorities": "parl.agents.replay.priorities",
    "parl.algorithms.wrapper": "parl.algorithms.wrappers.base",
    "parl.models.agents": "parl.models.per_agent",
    "parl.remote.meter": "parl.remote.gauge",
}


class OldNames(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module by its old name, with a DeprecationWarning."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} is {new} now", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__  # which the import machinery replaces
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Makes the old names importable. Further calls have no effect."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
