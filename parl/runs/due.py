"""What falls due in a run: a line of metrics, an evaluation, a checkpoint, the end of its hours."""

import time

from parl.agents.execution.protocol import Execution
from parl.runs.books import env_steps_of
from parl.runs.config import RunConfig

LOG_POINTS = 100  # lines of a run, beside those of its evaluations


class Due:
    """Tells what the last iteration of an execution made due."""

    def __init__(self, config: RunConfig, execution: Execution):
        self.config, self.execution = config, execution
        self.began = time.perf_counter()
        self.log_every = max(config.steps // LOG_POINTS, 1)

    @property
    def line(self) -> bool:
        """Whether a line of metrics is due."""
        return self.passed(self.log_every)

    @property
    def evaluation(self) -> bool:
        """Whether an evaluation is due."""
        return self.passed(self.config.eval_every)

    @property
    def checkpoint(self) -> bool:
        """Whether a checkpoint is due."""
        return self.passed(self.config.checkpoint_every)

    @property
    def end(self) -> str:
        """Why the run is to end by now; empty before its hours are over."""
        hours, most = (time.perf_counter() - self.began) / 3600, self.config.max_hours
        return "" if most is None or hours < most else f"{most:g} hours are over"

    def passed(self, every: int) -> bool:
        """Whether the last iteration passed a multiple of `every` steps."""
        now = env_steps_of(self.execution)
        before = now - self.execution.steps_per_iteration
        return now // every > max(before, 0) // every

    def iterations(self) -> int:
        """Iterations until the next of these, or until the run's end."""
        now, config = env_steps_of(self.execution), self.config
        every = config.eval_every, config.checkpoint_every, self.log_every
        due = min([(now // n + 1) * n for n in every] + [config.steps])
        return -(-(due - now) // self.execution.steps_per_iteration)
