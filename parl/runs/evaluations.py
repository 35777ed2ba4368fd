"""The evaluations of a run while it is trained: played, shown, and told to its hooks."""

from typing import Any

import numpy as np

from parl.agents.execution.protocol import Execution
from parl.runs.books import env_steps_of
from parl.runs.directory import RunDir
from parl.runs.evaluation import Evaluation
from parl.runs.judge import Judge
from parl.runs.listeners import Listeners
from parl.runs.saver import Phases


class Evaluations:
    """Evaluates the policies of one run, and says what they reached."""

    def __init__(self, judge: Judge, execution: Execution, phases: Phases, listeners: Listeners):
        self.judge, self.execution, self.phases = judge, execution, phases
        self.listeners, self.progress = listeners, phases.progress
        self.last: tuple[int, Evaluation] | None = None  # at what step
        self.said_cut = False

    def now(self, episodes: int) -> Evaluation:
        """Plays `episodes` of every seed, unless evaluated at this step already."""
        env_steps = env_steps_of(self.execution)
        if self.last is not None and self.last[0] == env_steps:
            return self.last[1]
        with self.phases.doing("evaluating", "eval"):
            evaluation = self.judge.evaluate(env_steps, episodes)
        self.tell(evaluation, env_steps)
        return evaluation

    def take(self, evaluation: Evaluation, env_steps: int) -> None:
        """Takes the evaluation of a step that was made elsewhere."""
        self.judge.take(evaluation, env_steps)
        self.tell(evaluation, env_steps)

    def tell(self, evaluation: Evaluation, env_steps: int) -> None:
        """Shows an evaluation of the policy of a step and calls the user's hooks."""
        mean, std = float(np.mean(evaluation.mean)), float(np.mean(evaluation.std))
        played = evaluation.returns.shape[-1]
        self.progress.evaluated(env_steps, mean, std, played, evaluation.exploitability)
        if not self.said_cut and (line := evaluation.cut_line(self.judge.config.env)):
            self.progress.message(line)
            self.said_cut = True
        self.last = env_steps, evaluation
        self.listeners.evaluated(evaluation, None, env_steps)

    def look_back(self) -> None:
        """Tells the user's hooks of the training episodes, in the place of an evaluation."""
        env_steps = env_steps_of(self.execution)
        self.listeners.evaluated(None, self.judge.look_back(env_steps), env_steps)

    def of_the_best(self, run: RunDir) -> dict[str, Any]:
        """Results of the run's best policy on fresh episodes, by their names in result.json."""
        env_steps, best = env_steps_of(self.execution), self.judge.best
        episodes = self.judge.absolute_episodes(env_steps)
        if not episodes or best is None:
            return {}
        saved = run.saved()
        at = best[1] if best[1] in saved else saved[-1]
        found = run.checked(at, self.judge.config.run_id, replay=False)
        with self.phases.doing("evaluating the best", "eval"):
            evaluation = self.judge.absolute(found, env_steps, episodes)
        played = {"episodes": evaluation.returns.shape[-1], "env_steps": at}
        return {f"absolute/{k}": x for k, x in (evaluation.metrics() | played).items()}
