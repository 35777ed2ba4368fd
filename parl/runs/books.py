"""What a run counts and owes beside what it learns: saved with each checkpoint."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parl.agents.execution.protocol import Execution, updates_of
from parl.core.manifest import quantity


def env_steps_of(execution: Execution) -> int:
    """Environment steps of each seed so far."""
    return execution.iteration * execution.steps_per_iteration


def skipped_updates(execution: Execution) -> Any:
    """Updates discarded because of NaN or infinity: a number, or one per seed."""
    discarded = np.asarray(execution.discarded.total)
    return (discarded * updates_of(execution.learner, 1)).tolist()


@dataclass
class Books:
    """Counters of this session and of those before it, and what is still to be written."""

    due: dict[str, Any] | None = None  # a line of metrics that is not written yet
    parameters: dict[str, Any] = field(default_factory=dict)  # of the environments, as hooks asked
    noted: dict[str, float] = field(default_factory=dict)  # of hooks, for the next line of metrics
    updates_before: int = 0  # those of earlier sessions
    resumed_at: int | None = None  # environment steps at which this session began; None from 0
    resumed_iteration: int = 0  # the execution's at that moment

    def updates(self, execution: Execution) -> int:
        """Updates of each seed so far."""
        return self.updates_before + execution.updates_since(self.resumed_iteration)

    def restore(self, meta: dict[str, Any], execution: Execution) -> None:
        """Takes a checkpoint's counters. Raises an error of NONSENSE if they are invalid."""
        now = env_steps_of(execution)
        if now != meta["env_steps"]:
            raise ValueError(f"it is in truth of step {now}")
        updates = int(quantity(meta.get("updates", self.updates(execution))))
        due = meta.get("due")
        if due is not None and due["env_steps"] != now:
            raise ValueError(f"its metrics are of step {due['env_steps']!r}")
        self.updates_before, self.due = updates, due
        self.resumed_iteration, self.resumed_at = execution.iteration, now
