"""The trainer: drives any execution and does everything that is not learning.

Evaluation, checkpoints, logs, progress and interruption happen between iterations and do not affect
learning: a run's parameters do not depend on how often they happen.
"""

import dataclasses
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from parl.agents.execution.ended import Ended
from parl.agents.execution.protocol import Execution
from parl.core.checkpoint import named_leaves, params_sha256
from parl.core.errors import ClusterLost, EnvError, Halted, ParlError, RemoteError
from parl.report.metrics import RunLog, plain
from parl.report.progress import Progress
from parl.runs.books import Books, env_steps_of
from parl.runs.build import Parts
from parl.runs.clock import Clock
from parl.runs.config import profiled
from parl.runs.data import normalized
from parl.runs.directory import RunDir
from parl.runs.episodes import Stopped
from parl.runs.evaluation import Evaluation
from parl.runs.hooks import Hooks, tell
from parl.runs.interruption import Signals, interrupted
from parl.runs.judge import Judge
from parl.runs.keep import Keeper
from parl.runs.meter import Meter, per_seed, told_of
from parl.runs.profile import Profiler
from parl.runs.result import told_at_end
from parl.runs.saver import Phases, Saver

CHUNK_SECONDS = 0.5  # between two looks at signals and the clock
LOG_POINTS = 100  # of a run, beside the evaluations


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
        self.said_cut = False
        self.evaluated: tuple[int, Evaluation] | None = None  # the last one, at what step
        self.hooks, self.stopping = hooks, ""  # why the run is to end early
        self.keeper: Keeper | None = None
        self.books = Books()
        if self.config.record:
            execution.keep(lambda rollout, steps: self.keeper and self.keeper(rollout, steps))
            self.keeper = Keeper(parts)
        self.phases = Phases(progress, clock)
        self.saver = Saver(
            self.config,
            execution,
            run,
            self.books,
            self.judge,
            self.signals,
            self.phases,
            self.keeper,
        )
        self.beside: Any = None  # where evaluations do not hold up learning
        self.late: Any = None  # one of those that is under way
        if self.config.learners > 1 and self.judge.evaluates:
            from parl.runs.beside import Beside  # only now: it loads Ray

            self.beside = Beside(parts, stopped)
        self.data = parts.data
        self.profiler = Profiler(profiled(self.config.profile), run.path)
        self.began = time.perf_counter()

    # --- the loop ---------------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        """Runs to the end; returns the content of result.json."""
        written = self.books.resumed_at and self.books.resumed_at - (self.books.due is not None)
        settings, seeds = self.config.told(), self.config.seeds
        self.log = RunLog(self.run.path, written, settings=settings, seeds=seeds)
        self.meter = Meter(self.env_steps, self.clock)
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
            self.log.close()
            self.profiler.end()
            if self.beside is not None:
                self.beside.close()
            if self.keeper is not None:
                self.keeper.close()

    def begin(self) -> None:
        """Writes the first checkpoint, or the line that was due when the restored one was saved."""
        start = {"path": str(self.run.path), "env_steps": self.env_steps}
        self.tell("on_start", start | {"config": dataclasses.asdict(self.config)})
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
        self.meter.add(report)
        self.signals.save_wanted |= report.asks_to_save
        self.judge.trained(report.ended)
        if said := self.profiler.at(self.execution.iteration):
            self.progress.message(said)

    def chunk(self) -> int:
        """Iterations until something is due, or for CHUNK_SECONDS at most."""
        step, now = self.execution.steps_per_iteration, self.env_steps
        every = self.config.eval_every, self.config.checkpoint_every, self.log_every
        due = min([(now // n + 1) * n for n in every] + [self.config.steps])
        wanted = -(-(due - now) // step)
        wanted = min(wanted, self.profiler.left(self.execution.iteration) or wanted)
        return max(1, min(wanted, int(self.rate * CHUNK_SECONDS) or 1))

    def between(self) -> None:
        """Does what is due between two chunks; saves first, so that evaluation loses nothing."""
        self.saver.check()
        hours = (time.perf_counter() - self.began) / 3600
        if self.config.max_hours is not None and hours >= self.config.max_hours:
            self.stopping = self.stopping or f"{self.config.max_hours:g} hours are over"
        at_end = not self.going
        if at_end or self.episodes_due() or self.passed(self.log_every):
            self.books.due = self.line()
        if self.signals.name:
            self.leave()
        if at_end:
            return  # finish() does the rest
        if self.passed(self.config.eval_every) and not self.judge.evaluates:
            self.judged(None, self.judge.look_back(self.env_steps), self.env_steps)
        self.receive(wait=False)
        due = self.signals.asked_to_save() or self.passed(self.config.checkpoint_every)
        if self.beside is not None:
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
        if episodes and self.beside is not None:
            self.evaluate_beside(episodes)
        else:
            self.record(self.evaluate(episodes) if episodes else None)

    def evaluate_beside(self, episodes: int) -> None:
        """Begins an evaluation; the line that is due, and those after it, wait for its end."""
        from parl.runs.beside import Late

        self.receive(wait=True)
        self.beside.begin(self.execution.policy, self.env_steps, episodes)
        self.late, self.books.due = Late(self.env_steps, self.books.due or {}), None

    def receive(self, wait: bool) -> None:
        """Takes the results of an evaluation under way, and writes the lines that waited for it."""
        late = self.late
        if late is None or not (wait or self.beside.is_done):
            return
        evaluation = self.beside.result()
        self.judge.take(evaluation, late.env_steps)
        self.late = None
        self.told(evaluation, late.env_steps)
        self.write(late.line, evaluation, late.env_steps)
        for line in late.later:
            self.write(line, None, line["env_steps"])

    def give_up(self) -> None:
        """Writes the lines that wait for an evaluation without it."""
        late, self.late = self.late, None
        if late is not None:
            for line in (late.line, *late.later):
                self.log.write(line)

    def episodes_due(self) -> int:
        """Number of evaluation episodes that are due now."""
        due = self.passed(self.config.eval_every)
        return self.judge.episodes(self.env_steps) if due else 0

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

    def passed(self, every: int) -> bool:
        """Whether the last iteration passed a multiple of `every` steps."""
        before = self.env_steps - self.execution.steps_per_iteration
        return self.env_steps // every > max(before, 0) // every

    # --- what is due ------------------------------------------------------------------------

    @property
    def env_steps(self) -> int:
        """Environment steps of each seed so far."""
        return env_steps_of(self.execution)

    @property
    def going(self) -> bool:
        """Whether steps are left and no end was requested."""
        return self.env_steps < self.config.steps and not self.stopping

    def tell(self, name: str, values: dict[str, Any]) -> None:
        """Calls the user's hooks and applies their answers; if one raises, the run is saved."""
        try:
            asked = tell(self.hooks, name, values)
            if asked.parameters and not (name == "on_start" and self.books.resumed_at is not None):
                self.books.parameters = self.books.parameters | asked.parameters
                self.execution.change(self.books.parameters)
        except Exception:
            if self.saver.is_due and self.saver.last_saved >= 0:
                self.saver.write()
            raise
        self.books.noted = self.books.noted | asked.metrics
        self.stopping = self.stopping or asked.reason

    def judged(self, evaluation: Evaluation | None, ended: Ended | None, env_steps: int) -> None:
        """Calls the user's hooks after an evaluation of the policy of a step."""
        found = told_at_end(evaluation, ended, self.config.info_names)
        self.tell("on_evaluation", {"env_steps": env_steps, **found})

    @property
    def skipped_updates(self) -> Any:
        """Updates discarded because of NaN or infinity: a number, or one per seed."""
        skipped = np.asarray(self.execution.discarded.total)
        return (skipped * getattr(self.execution.learner, "updates", 1)).tolist()

    @property
    def log_every(self) -> int:
        return max(self.config.steps // LOG_POINTS, 1)

    def evaluate(self, episodes: int) -> Evaluation:
        """Plays `episodes` of every seed, unless evaluated at this step already."""
        if self.evaluated is not None and self.evaluated[0] == self.env_steps:
            return self.evaluated[1]
        with self.phases.doing("evaluating", "eval"):
            evaluation = self.judge.evaluate(self.env_steps, episodes)
        self.told(evaluation, self.env_steps)
        return evaluation

    def told(self, evaluation: Evaluation, env_steps: int) -> None:
        """Shows an evaluation of the policy of a step and calls the user's hooks."""
        mean, std = float(np.mean(evaluation.mean)), float(np.mean(evaluation.std))
        played = evaluation.returns.shape[-1]
        self.progress.evaluated(env_steps, mean, std, played, evaluation.exploitability)
        if not self.said_cut and (line := evaluation.cut_line(self.config.env)):
            self.progress.message(line)
            self.said_cut = True
        self.evaluated = env_steps, evaluation
        self.judged(evaluation, None, env_steps)

    def absolute(self) -> dict[str, Any]:
        """Evaluates the best policy of the run on fresh episodes."""
        best, episodes = self.judge.best, self.judge.absolute_episodes(self.env_steps)
        if not episodes or best is None:
            return {}
        saved = self.run.saved()
        steps = best[1] if best[1] in saved else saved[-1]
        found = self.run.checked(steps, self.config.run_id, replay=False)
        with self.phases.doing("evaluating the best", "eval"):
            evaluation = self.judge.absolute(found, self.env_steps, episodes)
        played = {"episodes": evaluation.returns.shape[-1], "env_steps": steps}
        return {f"absolute/{k}": x for k, x in (evaluation.metrics() | played).items()}

    def line(self) -> dict[str, Any]:
        """Builds a line of metrics since the last one and shows it."""
        meter, self.meter = self.meter, Meter(self.env_steps, self.clock)
        rate, losses = meter.rate(), meter.losses()
        line: dict[str, Any] = {"env_steps": self.env_steps}
        line |= {"wall_s": round(self.clock.total, 3)} | self.spent()
        line["sps"] = None if rate is None else round(rate * self.config.num_seeds, 1)
        line |= meter.shares()
        line["updates"] = self.books.updates(self.execution)
        told = told_of(meter.ended(), self.config.info_names)
        for name, value in (losses | {"skipped_updates": self.skipped_updates} | told).items():
            line |= per_seed(name, value)
        shown = None if line["return_mean"] is None else float(line["return_mean"])
        self.progress.update(self.env_steps, rate, shown, losses)
        return plain(line | self.execution.stats())

    def record(self, evaluation: Evaluation | None) -> None:
        """Writes the line that is due, after those that wait for an evaluation under way."""
        line, self.books.due = self.books.due or {}, None
        if self.late is not None:
            self.late.later.append(line)
        else:
            self.write(line, evaluation, self.env_steps)

    def write(self, line: dict[str, Any], evaluation: Evaluation | None, env_steps: int) -> None:
        """Writes a line of a step, and updates that step's checkpoint with the results."""
        if evaluation is not None:
            for name, value in evaluation.metrics().items():
                line |= per_seed(f"eval/{name}", value)
            line["eval/episodes"] = evaluation.returns.shape[-1]
        line, self.books.noted = line | self.books.noted, {}
        self.log.write(line)
        self.tell("on_record", line)
        if self.saver.last_saved == env_steps:
            if evaluation is not None and self.config.eval_env == "train":
                self.save()  # the environments that were lent have begun anew
            else:
                self.saver.amend()

    def spent(self) -> dict[str, float]:
        """Seconds by phase, as logged."""
        return {f"{name}_s": round(x, 3) for name, x in self.clock.read().items()}

    # --- saving -----------------------------------------------------------------------------

    def save(self, phase: str = "saving", spent_on: str = "save") -> None:
        """Writes a checkpoint, removes old ones, and calls the user's hooks."""
        self.receive(wait=True)
        self.saver.write(phase, spent_on)
        path = self.run.checkpoints / str(self.env_steps)
        self.tell("on_checkpoint", {"env_steps": self.env_steps, "path": str(path)})

    def finish(self) -> dict[str, Any]:
        """Writes the last checkpoint, then the last evaluation and the result."""
        self.receive(wait=True)
        if self.saver.is_due:
            self.save()
        episodes = self.judge.episodes(self.env_steps, at_end=True)
        evaluation = self.evaluate(episodes) if episodes else None
        ended = self.judge.look_back(self.env_steps)
        if self.books.due is not None:
            self.record(evaluation)
        judged = told_at_end(evaluation, ended, self.config.info_names)
        absolute = self.absolute()
        rate = self.clock.rate()
        result = {
            "algorithm": self.config.algorithm,
            "env": self.config.env,
            "seeds": list(self.config.seeds),
            **judged,
            "env_steps": self.env_steps,
            "updates": self.books.updates(self.execution),
            "skipped_updates": self.skipped_updates,
            "wall_s": round(self.clock.total, 3),
            **self.spent(),
            "sps": None if rate is None else round(rate * self.config.num_seeds, 1),
            "params_sha256": params_sha256(named_leaves(self.execution.snapshot(False).tree)),
            **absolute,
        }
        if self.keeper is not None:
            self.keeper.finish(self.env_steps)
        if self.data is not None and (score := normalized(self.data.card, result)) is not None:
            result["normalized_score"] = score
        if self.stopping:
            result["stopped"] = self.stopping
        result = plain(result)
        self.run.write_result(result)
        self.tell("on_end", result)
        return result
