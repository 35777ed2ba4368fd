"""The trainer: drives any execution and does everything that is not learning.

Evaluation, checkpoints, logs, progress and interruption happen between iterations and do not affect
learning: a run's parameters do not depend on how often they happen.
"""

import dataclasses
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from parl.agents.execution.protocol import Execution
from parl.core.errors import ClusterLost, EnvError, Halted, ParlError, RemoteError
from parl.report.metrics import plain
from parl.report.progress import Progress
from parl.runs.books import Books, env_steps_of
from parl.runs.build import Parts
from parl.runs.clock import Clock
from parl.runs.config import profiled
from parl.runs.data import normalized
from parl.runs.directory import RunDir
from parl.runs.due import Due
from parl.runs.episodes import Stopped
from parl.runs.evaluation import Evaluation
from parl.runs.evaluations import Evaluations
from parl.runs.hooks import Hooks
from parl.runs.interruption import Signals, interrupted
from parl.runs.judge import Judge
from parl.runs.keep import Keeper
from parl.runs.lines import Lines
from parl.runs.listeners import Listeners
from parl.runs.profile import Profiler
from parl.runs.result import counts, told_at_end
from parl.runs.saver import Phases, Saver
from parl.runs.waiting import Waiting

CHUNK_SECONDS = 0.5  # between two looks at signals and the clock


class Trainer:
    """Trains one run from its current step to its last."""

    def __init__(
        self,
        parts: Parts,
        execution: Execution,
        run: RunDir,
        progress: Progress,
        clock: Clock,
        hooks: Sequence[Hooks] = (),
    ):
        self.config, self.execution, self.run = parts.config, execution, run
        self.progress, self.clock = progress, clock
        self.signals = Signals()
        stopped = lambda: bool(self.signals.signum)
        execution.heed(stopped)
        self.judge = Judge(parts, execution, stopped=stopped)
        self.rate = 0.0  # iterations per second
        self.keeper: Keeper | None = None
        self.books, self.due = Books(), Due(self.config, execution)
        if self.config.record:
            execution.keep(lambda rollout, steps: self.keeper and self.keeper(rollout, steps))
            self.keeper = Keeper(parts)
        self.phases = Phases(progress, clock)
        of_saver = self.judge, self.signals, self.phases, self.keeper
        self.saver = Saver(self.config, execution, run, self.books, *of_saver)
        self.listeners = Listeners(hooks, execution, self.books, self.saver)
        self.evaluations = Evaluations(self.judge, execution, self.phases, self.listeners)
        self.waiting: Waiting | None = None  # where evaluations do not hold up learning
        if self.config.learners > 1 and self.judge.evaluates:
            from parl.runs.beside import Beside  # only now: it loads Ray

            self.waiting = Waiting(Beside(parts, stopped))
        self.data = parts.data
        self.profiler = Profiler(profiled(self.config.profile), run.path)

    # --- the loop ---------------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        """Runs to the end; returns the content of result.json."""
        config, books = self.config, self.books
        self.lines = Lines(config, self.execution, self.run, books, self.clock, self.progress)
        try:
            with self.signals:
                try:
                    self.begin()
                    self.compile()
                    self.clock.switch("train")
                    while self.going:
                        self.advance(self.chunk())
                        self.between()
                    return self.finish()
                except (Stopped, Halted):
                    self.leave()
                    raise
                except (RemoteError, EnvError) as error:
                    if self.config.execution == "ray" and self.saver.last_saved >= 0:
                        self.rescue(error)
                    raise
        finally:
            self.lines.close()
            self.profiler.end()
            if self.waiting is not None:
                self.waiting.close()
            if self.keeper is not None:
                self.keeper.close()

    def begin(self) -> None:
        """Writes the first checkpoint, or the line that was due when the restored one was saved."""
        start = {"path": str(self.run.path), "env_steps": self.env_steps}
        self.listeners.tell("on_start", start | {"config": dataclasses.asdict(self.config)})
        if self.books.resumed_at is None:
            with self.signals.save():
                self.save("setting up", "start")
                self.run.write_config(self.config)  # from here on it is a run
            self.saver.promise()
        elif self.books.due is not None and self.env_steps < self.config.steps:
            self.complete()
        if self.signals.name:
            self.leave()

    def compile(self) -> None:
        """Runs the first iteration of each phase, warm-up and learning, which compiles it."""
        for boundary in (0, self.execution.warmup):
            self.advance_to(boundary)
            if self.execution.iteration == boundary and self.going:
                with self.phases.doing("compiling", "compile"):
                    self.iterate(1)
                self.between()

    def advance_to(self, iteration: int) -> None:
        """Runs up to an iteration."""
        self.clock.switch("train")
        while self.execution.iteration < iteration and self.going:
            self.advance(min(self.chunk(), iteration - self.execution.iteration))
            self.between()

    def advance(self, iterations: int) -> None:
        """Runs some iterations and measures their speed."""
        begin, before = time.perf_counter(), self.execution.iteration
        self.iterate(iterations)
        made = self.execution.iteration - before  # fewer where a signal came
        self.clock.steps += made * self.execution.steps_per_iteration
        self.rate = made / (time.perf_counter() - begin)

    def iterate(self, iterations: int) -> None:
        """Runs some iterations and records the execution's report."""
        self.profiler.at(self.execution.iteration)
        report = self.execution.advance(iterations)
        self.lines.add(report)
        self.signals.save_wanted |= report.asks_to_save
        self.judge.trained(report.ended)
        if said := self.profiler.at(self.execution.iteration):
            self.progress.message(said)

    def chunk(self) -> int:
        """Iterations until something is due, or for CHUNK_SECONDS at most."""
        wanted = self.due.iterations()
        wanted = min(wanted, self.profiler.left(self.execution.iteration) or wanted)
        return max(1, min(wanted, int(self.rate * CHUNK_SECONDS) or 1))

    def between(self) -> None:
        """Does what is due between two chunks; saves first, so that evaluation loses nothing."""
        self.saver.check()
        self.listeners.reason = self.listeners.reason or self.due.end
        at_end = not self.going
        if at_end or self.episodes_due() or self.due.line:
            self.books.due = self.lines.next()
        if self.signals.name:
            self.leave()
        if at_end:
            return  # finish() does the rest
        if self.due.evaluation and not self.judge.evaluates:
            self.evaluations.look_back()
        self.receive(wait=False)
        due = self.signals.asked_to_save() or self.due.checkpoint
        if self.waiting is not None:
            due = due or bool(self.episodes_due())  # later it could not be saved as the best
        if due and self.saver.is_sound:
            self.save()
        if self.books.due is not None:
            self.complete()
        if self.saver.is_best_unsaved and self.saver.is_sound:
            self.save()

    def complete(self) -> None:
        """Writes the line that is due, with an evaluation if that is due as well."""
        episodes = self.episodes_due()
        if episodes and self.waiting is not None:
            self.receive(wait=True)
            self.waiting.begin(self.execution.policy, self.line_due, episodes)
            self.books.due = None
        else:
            self.record(self.evaluations.now(episodes) if episodes else None)

    def receive(self, wait: bool) -> None:
        """Writes the lines that waited for an evaluation, if it has ended or is waited for."""
        found = self.waiting.take(wait) if self.waiting is not None else None
        if found is not None:
            self.evaluations.take(found.evaluation, found.line["env_steps"])
            self.write(found.line, found.evaluation)
            for line in found.later:
                self.write(line)

    def give_up(self) -> None:
        """Writes the lines that wait for an evaluation without it."""
        for line in self.waiting.give_up() if self.waiting is not None else ():
            self.lines.write(line)

    def episodes_due(self) -> int:
        """Number of evaluation episodes that are due now."""
        return self.judge.episodes(self.env_steps) if self.due.evaluation else 0

    def rescue(self, error: ParlError) -> None:
        """Saves the run after rollout workers failed, and adds that to their error."""
        self.give_up()
        if self.env_steps > self.saver.last_saved:
            with suppress(ClusterLost):  # of learners that were on it
                self.save()
        error.args = (
            f"{error} The run is saved at step {self.saver.last_saved}; go on with 'parl resume "
            f"{self.run.path}'.",
        )

    def leave(self) -> None:
        """Saves and raises Interrupted."""
        self.give_up()
        if self.saver.is_due:
            self.save()
        raise interrupted(
            f"saved at step {self.env_steps}; go on with 'parl resume {self.run.path}'",
            self.signals.signum,
        )

    # --- what is due ------------------------------------------------------------------------

    @property
    def env_steps(self) -> int:
        """Environment steps of each seed so far."""
        return env_steps_of(self.execution)

    @property
    def going(self) -> bool:
        """Whether steps are left and no end was requested."""
        return self.env_steps < self.config.steps and not self.listeners.reason

    # --- lines ------------------------------------------------------------------------------

    @property
    def line_due(self) -> dict[str, Any]:
        """The line that is due; there must be one."""
        assert self.books.due is not None
        return self.books.due

    def record(self, evaluation: Evaluation | None) -> None:
        """Writes the line that is due, after those that wait for an evaluation under way."""
        line, self.books.due = self.line_due, None
        if self.waiting is None or not self.waiting.keeps(line):
            self.write(line, evaluation)

    def write(self, line: dict[str, Any], evaluation: Evaluation | None = None) -> None:
        """Writes a line and updates the checkpoint of its step with the results."""
        self.listeners.tell("on_record", self.lines.write(line, evaluation))
        if self.saver.last_saved == line["env_steps"]:
            if evaluation is not None and self.config.eval_env == "train":
                self.save()  # the environments that were lent have begun anew
            else:
                self.saver.amend()

    # --- saving -----------------------------------------------------------------------------

    def save(self, phase: str = "saving", spent_on: str = "save") -> None:
        """Writes a checkpoint, removes old ones, and calls the user's hooks."""
        self.receive(wait=True)
        self.saver.write(phase, spent_on)
        path = self.run.checkpoints / str(self.env_steps)
        self.listeners.tell("on_checkpoint", {"env_steps": self.env_steps, "path": str(path)})

    def finish(self) -> dict[str, Any]:
        """Writes the last checkpoint, then the last evaluation and the result."""
        self.receive(wait=True)
        if self.saver.is_due:
            self.save()
        episodes = self.judge.episodes(self.env_steps, at_end=True)
        evaluation = self.evaluations.now(episodes) if episodes else None
        ended = self.judge.look_back(self.env_steps)
        if self.books.due is not None:
            self.record(evaluation)
        judged = told_at_end(evaluation, ended, self.config.info_names)
        counted = counts(self.config, self.execution, self.books, self.clock)
        result = counted | judged | self.evaluations.of_the_best(self.run)
        if self.data is not None and (score := normalized(self.data.card, result)) is not None:
            result["normalized_score"] = score
        if self.listeners.reason:
            result["stopped"] = self.listeners.reason
        result = plain(result)
        if self.keeper is not None:
            self.keeper.finish(self.env_steps)
        self.run.write_result(result)
        self.listeners.tell("on_end", result)
        return result
