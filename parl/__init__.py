"""PARL-JAX: Model, Algorithm, Agent on JAX; one definition fused, on the host, and on Ray.

Names are loaded when they are first used, so that `import parl` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

HOMES = {
    "train": "parl.api",
    "resume": "parl.api",
    "evaluate": "parl.api",
    "load": "parl.api",
    "Agent": "parl.api",
    "Run": "parl.api",
    "Stop": "parl.hooks",
    "transition": "parl.agents.agent",
    "OnPolicy": "parl.agents.learner",
    "OffPolicy": "parl.agents.learner",
    "Replay": "parl.agents.replay",
    "NumpyReplay": "parl.agents.replay",
    "Algorithm": "parl.core.algorithm",
    "Model": "parl.core.model",
    "Step": "parl.core.types",
    "Rollout": "parl.core.types",
    "Net": "parl.core.types",
    "descend": "parl.core.types",
    "static": "parl.core.types",
    "Box": "parl.core.spec",
    "Discrete": "parl.core.spec",
    "MultiDiscrete": "parl.core.spec",
    "EnvSpec": "parl.core.spec",
    "ParlError": "parl.core.errors",
    "Interrupted": "parl.interruption",
    "ConfigError": "parl.core.errors",
    "SpaceError": "parl.core.errors",
    "MissingPackage": "parl.core.errors",
    "EnvError": "parl.core.errors",
    "CheckpointError": "parl.core.errors",
    "RemoteError": "parl.core.errors",
    "check_env": "parl.envs.check",
    "connect": "parl.remote",
    "disconnect": "parl.remote",
    "remote_class": "parl.remote",
    "RolloutPool": "parl.remote",
    "Restart": "parl.remote",
    "chaos": "parl.remote",
}

__all__ = [*HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from parl.agents.agent import transition as transition
    from parl.agents.learner import OffPolicy as OffPolicy
    from parl.agents.learner import OnPolicy as OnPolicy
    from parl.api import Agent as Agent
    from parl.api import evaluate as evaluate
    from parl.api import load as load
    from parl.api import resume as resume
    from parl.api import train as train
    from parl.envs.check import check_env as check_env


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'parl' has no attribute '{name}'")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
