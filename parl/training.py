"""The trainer: drives any execution, and does all that is not learning.

Evaluation, checkpoints, logs, progress and interruption happen between iterations and change
nothing of what is learned: a run's parameters do not depend on how often any of them happens.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from parl.agents.execution import Execution
from parl.agents.learner import MAX_BAD
from parl.config import RunConfig
from parl.core.checkpoint import Checkpoint, params_sha256
from parl.core.errors import ParlError
from parl.evaluation import Contest, Evaluation, Evaluator
from parl.interruption import Interrupted, Signals
from parl.logging import RunLog
from parl.meter import Meter, per_seed
from parl.progress import Progress
from parl.run_dir import RunDir

CHUNK_SECONDS = 0.5  # between two looks at signals and the clock
LOG_POINTS = 100  # of a run, beside the evaluations


class Diverged(ParlError):
    """Learning arrived at NaN or infinity."""

    exit_code = 1


class Trainer:
    """One run from where it stands to its last step."""

    def __init__(
        self,
        config: RunConfig,
        execution: Execution,
        make_evaluator: Callable[[int], Evaluator | Contest],  # for so many episodes
        run: RunDir,
        quiet: bool,
    ):
        self.config, self.execution, self.run, self.quiet = config, execution, run, quiet
        self.make_evaluator = make_evaluator
        self.evaluator = make_evaluator(config.eval_episodes)
        self.signals = Signals()
        self.wall_before = self.compile_s = 0.0  # seconds, of earlier sessions; of compiling
        self.best: tuple[float, int] | None = None  # (evaluation, environment steps)
        self.last_saved = -1
        self.rate = 0.0  # iterations per second
        self.resumed_at: int | None = None

    # --- the loop ---------------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        """Runs to the end; returns what result.json holds."""
        title = f"{self.config.algorithm} on {self.config.env}"
        self.log = RunLog(self.run.path, self.resumed_at)
        self.start = time.perf_counter()
        self.meter = Meter(self.env_steps)
        try:
            progress = Progress(self.config.steps, title, quiet=self.quiet)
            with self.signals, progress as self.progress:
                if self.resumed_at is None:
                    self.save()
                self.compile()
                while self.env_steps < self.config.steps:
                    self.advance(self.chunk())
                    self.between()
                return self.finish()
        finally:
            self.log.close()

    def compile(self) -> None:
        """The first iteration of each phase, which compiles it: warming up, then learning."""
        for boundary in (0, self.execution.warmup):
            if self.execution.iteration <= boundary and self.env_steps < self.config.steps:
                self.advance_to(boundary)
                self.progress.phase("compiling")
                begin = time.perf_counter()
                self.meter.add(self.execution.advance(1))
                self.compile_s += time.perf_counter() - begin
                self.progress.phase("training")
                self.between()
                self.meter.start(self.env_steps)

    def advance_to(self, iteration: int) -> None:
        """Runs up to an iteration."""
        while self.execution.iteration < iteration and self.env_steps < self.config.steps:
            self.advance(min(self.chunk(), iteration - self.execution.iteration))
            self.between()

    def advance(self, iterations: int) -> None:
        """Runs some iterations and learns how fast they are."""
        begin = time.perf_counter()
        self.meter.add(self.execution.advance(iterations))
        self.rate = iterations / (time.perf_counter() - begin)

    def chunk(self) -> int:
        """Iterations until something is due, or until it is time to look up."""
        step, now = self.execution.steps_per_iteration, self.env_steps
        every = self.config.eval_every, self.config.checkpoint_every, self.log_every
        due = min([(now // n + 1) * n for n in every] + [self.config.steps])
        wanted = -(-(due - now) // step)
        return max(1, min(wanted, int(self.rate * CHUNK_SECONDS) or 1))

    def between(self) -> None:
        """Whatever is due between two chunks."""
        self.check()
        if name := self.signals.name:
            self.save()
            raise Interrupted(
                f"{name}: saved at step {self.env_steps}; go on with 'parl resume {self.run.path}'",
                self.signals.signum,
            )
        if self.env_steps >= self.config.steps:
            return  # finish() does the rest
        evaluate = self.passed(self.config.eval_every)
        if evaluate or self.passed(self.log_every):
            self.record(self.evaluate() if evaluate else None)
        due = self.passed(self.config.checkpoint_every) or self.is_best_unsaved()
        if due and not np.any(self.execution.state.bad_in_row):  # else it may be lost already
            self.save()

    def passed(self, every: int) -> bool:
        """Whether a multiple of `every` steps lies within the last iteration's reach."""
        before = self.env_steps - self.execution.steps_per_iteration
        return self.env_steps // every > max(before, 0) // every

    # --- what is due ------------------------------------------------------------------------

    @property
    def env_steps(self) -> int:
        """Environment steps of each seed so far."""
        return self.execution.iteration * self.execution.steps_per_iteration

    @property
    def updates(self) -> int:
        """Updates of each seed so far: the learner's, per iteration that learned."""
        learned = max(0, self.execution.iteration - self.execution.warmup)
        return learned * getattr(self.execution.learner, "updates", 1)

    @property
    def skipped_updates(self) -> Any:
        """Updates that were thrown away because of NaN or infinity: a number or one per seed."""
        skipped = np.asarray(self.execution.state.skipped)
        return (skipped * getattr(self.execution.learner, "updates", 1)).tolist()

    @property
    def log_every(self) -> int:
        return max(self.config.steps // LOG_POINTS, 1)

    @property
    def wall_s(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.wall_before + time.perf_counter() - self.start

    def evaluate(self) -> Evaluation:
        """Greedy episodes of every seed."""
        self.progress.phase("evaluating")
        evaluation = self.played(self.evaluator, self.execution.policy, self.env_steps)
        mean = float(np.mean(evaluation.mean))
        self.progress.evaluated(
            self.env_steps, mean, float(np.mean(evaluation.std)), self.evaluator.episodes
        )
        self.progress.phase("training")
        if self.best is None or mean > self.best[0]:
            self.best = mean, self.env_steps
        return evaluation

    def played(self, evaluator: Evaluator | Contest, policy: Any, when: int) -> Evaluation:
        """What an evaluator finds of every seed's policy."""
        take = self.execution.seeds.take
        games = [evaluator(take(policy, k), s, when) for k, s in enumerate(self.config.seeds)]
        return evaluator.summary(games)

    def absolute(self) -> dict[str, Any]:
        """The best policy of the run over fresh episodes: Gorsane et al. 2022, arXiv:2209.10485."""
        if not self.config.absolute_episodes or self.best is None:
            return {}
        self.progress.phase("evaluating")
        saved = self.run.saved()
        steps = self.best[1] if self.best[1] in saved else saved[-1]
        found = self.run.checked(steps, self.config.run_id)
        train = found.restore("run/learner/train", self.execution.train)
        learner, seeds = self.execution.learner, self.execution.seeds
        policy = jax.jit(seeds.vmap(learner.algorithm.policy))(train)
        evaluator = self.make_evaluator(self.config.absolute_episodes)
        evaluation = self.played(evaluator, policy, self.env_steps + 1)
        values = evaluation.metrics() | {"episodes": evaluator.episodes, "env_steps": steps}
        return {f"absolute/{name}": value for name, value in values.items()}

    def record(self, evaluation: Evaluation | None) -> None:
        """Writes one line of metrics of everything since the last."""
        meter, self.meter = self.meter, Meter(self.env_steps)
        rate, losses = meter.rate(self.env_steps), meter.losses()
        line: dict[str, Any] = {"env_steps": self.env_steps, "wall_s": round(self.wall_s, 3)}
        line |= {"sps": round(rate * self.config.num_seeds, 1), "updates": self.updates} | losses
        line |= per_seed("skipped_updates", self.skipped_updates)
        line |= per_seed("return_mean", meter.returns()) | self.execution.stats()
        if evaluation is not None:
            for name, value in evaluation.metrics().items():
                line |= per_seed(f"eval/{name}", value)
            line["eval/episodes"] = self.evaluator.episodes
        self.log.write(line)
        shown = None if line["return_mean"] is None else float(line["return_mean"])
        self.progress.update(self.env_steps, rate, shown, losses)

    # --- saving -----------------------------------------------------------------------------

    def is_best_unsaved(self) -> bool:
        """Whether this is the best policy so far and no checkpoint has it."""
        return self.best is not None and self.best[1] == self.env_steps != self.last_saved

    def check(self) -> None:
        """Raises Diverged where a seed learns no more; its last checkpoint stays the newest."""
        bad = np.atleast_1d(self.execution.state.bad_in_row)
        if (bad >= MAX_BAD).any():
            seed = self.config.seeds[int(bad.argmax())]
            raise Diverged(
                f"learning of seed {seed} diverged before step {self.env_steps}: {bad.max()} "
                "updates in a row became NaN or infinite; the run is back at its last good "
                f"checkpoint, {self.run.checkpoints / str(self.last_saved)}, train anew with a "
                "lower --learning-rate."
            )

    def save(self) -> dict[str, np.ndarray]:
        """Writes a checkpoint and removes those that are not kept."""
        if bad := not_finite(self.execution.train):
            raise Diverged(
                f"'{bad}' became NaN or infinite before step {self.env_steps}; checkpoints up to "
                f"step {self.last_saved} are good, try a lower --learning-rate."
            )
        self.progress.phase("saving")
        shot = self.execution.snapshot()
        meta = shot.meta | {
            "run_id": self.config.run_id,
            "exact": shot.exact,
            "wall_s": self.wall_s,
            "compile_s": self.compile_s,
            "best": self.best,
            "versions": self.config.versions,
            "config": self.config.settings | {"algorithm": self.config.algorithm},
        }
        arrays = self.run.save(self.env_steps, shot.tree, meta)
        self.last_saved = self.env_steps
        self.run.prune(self.config.keep, self.best[1] if self.best else None)
        self.progress.phase("training")
        return arrays

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of this run."""
        self.execution.restore(checkpoint)
        meta = checkpoint.meta
        self.wall_before, self.compile_s = meta["wall_s"], meta["compile_s"]
        self.best = tuple(meta["best"]) if meta["best"] else None
        self.last_saved = self.resumed_at = meta["env_steps"]

    def finish(self) -> dict[str, Any]:
        """The last evaluation, checkpoint and result."""
        evaluation = self.evaluate()
        if self.env_steps > self.meter.env_steps or self.resumed_at is None:
            self.record(evaluation)
        arrays = self.save()
        result = {
            "algorithm": self.config.algorithm,
            "env": self.config.env,
            "seeds": list(self.config.seeds),
            **evaluation.metrics(),
            "episodes": self.evaluator.episodes,
            "returns": evaluation.returns.tolist(),
            "env_steps": self.env_steps,
            "updates": self.updates,
            "skipped_updates": self.skipped_updates,
            "wall_s": round(self.wall_s, 3),
            "compile_s": round(self.compile_s, 3),
            "sps": round(self.env_steps * self.config.num_seeds / self.wall_s, 1),
            "params_sha256": params_sha256(arrays),
        }
        if evaluation.agents is not None:  # means of each agent's own
            result["agent_returns"] = evaluation.agents.mean(-2).tolist()
        if evaluation.sides is not None:
            result["side_returns"] = evaluation.sides.tolist()
        result |= self.absolute()
        self.run.write_result(result)
        return result


def not_finite(tree: Any) -> str:
    """The name of a leaf with NaN or infinity, or an empty string."""
    leaves = jax.tree.leaves_with_path(tree)
    floats = [(path, x) for path, x in leaves if jax.numpy.issubdtype(x.dtype, jax.numpy.floating)]
    good = jax.device_get([jax.numpy.isfinite(x).all() for _, x in floats])
    for (path, _), fine in zip(floats, good, strict=True):
        if not fine:
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return ""
