"""PARL-JAX: Model, Algorithm, Agent on JAX; one definition fused, on the host, and on Ray.

Names are loaded when they are first used, so that `import parl` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

from parl.core.moved import install

__version__ = "0.2.0"

HOMES = {
    "train": "parl.api",
    "resume": "parl.api",
    "evaluate": "parl.api",
    "exploit": "parl.runs.exploit",
    "video": "parl.runs.video",
    "sweep": "parl.studies.sweep",
    "tune": "parl.studies.tune",
    "record": "parl.api",
    "open_data": "parl.datasets.reader",
    "load": "parl.api",
    "export": "parl.api",
    "distill": "parl.api",
    "submit": "parl.api",
    "Policy": "parl.deploy.policy",
    "Agent": "parl.face",
    "Run": "parl.api",
    "Stop": "parl.runs.hooks",
    "NextEnv": "parl.runs.hooks",
    "plot_curves": "parl.report.plotting",
    "transition": "parl.agents.agent",
    "OnPolicy": "parl.agents.learner",
    "OffPolicy": "parl.agents.learner",
    "Replay": "parl.agents.replay.ring",
    "NumpyReplay": "parl.agents.replay.ring",
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
    "Interrupted": "parl.runs.interruption",
    "ConfigError": "parl.core.errors",
    "SpaceError": "parl.core.errors",
    "MissingPackage": "parl.core.errors",
    "EnvError": "parl.core.errors",
    "DataError": "parl.core.errors",
    "ArtefactError": "parl.core.errors",
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

if TYPE_CHECKING:  # for editors and type checkers
    from parl.agents.agent import transition as transition
    from parl.agents.learner import OffPolicy as OffPolicy
    from parl.agents.learner import OnPolicy as OnPolicy
    from parl.agents.replay.ring import NumpyReplay as NumpyReplay
    from parl.agents.replay.ring import Replay as Replay
    from parl.api import Run as Run
    from parl.api import distill as distill
    from parl.api import evaluate as evaluate
    from parl.api import export as export
    from parl.api import load as load
    from parl.api import record as record
    from parl.api import resume as resume
    from parl.api import submit as submit
    from parl.api import train as train
    from parl.core.algorithm import Algorithm as Algorithm
    from parl.core.errors import ArtefactError as ArtefactError
    from parl.core.errors import CheckpointError as CheckpointError
    from parl.core.errors import ConfigError as ConfigError
    from parl.core.errors import DataError as DataError
    from parl.core.errors import EnvError as EnvError
    from parl.core.errors import MissingPackage as MissingPackage
    from parl.core.errors import ParlError as ParlError
    from parl.core.errors import RemoteError as RemoteError
    from parl.core.errors import SpaceError as SpaceError
    from parl.core.model import Model as Model
    from parl.core.spec import Box as Box
    from parl.core.spec import Discrete as Discrete
    from parl.core.spec import EnvSpec as EnvSpec
    from parl.core.spec import MultiDiscrete as MultiDiscrete
    from parl.core.types import Net as Net
    from parl.core.types import Rollout as Rollout
    from parl.core.types import Step as Step
    from parl.core.types import descend as descend
    from parl.core.types import static as static
    from parl.datasets.reader import open_data as open_data
    from parl.deploy.policy import Policy as Policy
    from parl.envs.check import check_env as check_env
    from parl.face import Agent as Agent
    from parl.remote import Restart as Restart
    from parl.remote import RolloutPool as RolloutPool
    from parl.remote import chaos as chaos
    from parl.remote import connect as connect
    from parl.remote import disconnect as disconnect
    from parl.remote import remote_class as remote_class
    from parl.report.plotting import plot_curves as plot_curves
    from parl.runs.hooks import NextEnv as NextEnv
    from parl.runs.hooks import Stop as Stop
    from parl.runs.interruption import Interrupted as Interrupted
    from parl.runs.video import video as video

install()


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'parl' has no attribute '{name}'")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
