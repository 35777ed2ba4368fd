"""Evaluation beside learning: in an actor of its own, so that learners never wait for it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from parl.agents.execution.protocol import Seeds
from parl.agents.learner import Learner
from parl.remote.errand import Errand
from parl.runs.build import Parts
from parl.runs.evaluation import Evaluation
from parl.runs.judge import Judge
from parl.runs.layout import run_seeds


class Still(NamedTuple):
    """An execution of which only what is evaluated is known."""

    seeds: Seeds
    learner: Learner


class Beside:
    """The Examiner in an actor of Ray."""

    def __init__(self, parts: Parts, stopped: Callable[[], bool]):
        self.errand, self.stopped = Errand(partial(examiner, parts), "the evaluation"), stopped

    def begin(self, policy: Any, env_steps: int, episodes: int) -> None:
        self.errand.begin(policy, env_steps, episodes)

    @property
    def is_done(self) -> bool:
        return self.errand.is_done

    def result(self) -> Evaluation:
        return self.errand.result(self.stopped)

    def close(self) -> None:
        self.errand.close()


def examiner(parts: Parts) -> Callable[[Any, int, int], Evaluation]:
    """(policy, env_steps, episodes) -> the evaluation that a run of these parts makes."""
    execution: Any = Still(run_seeds(parts.config), parts.learner)
    return Judge(parts, execution, stopped=lambda: False).measure
