"""Lines of metrics.jsonl: what was measured since the line before, and the evaluation of a step."""

from typing import Any

from parl.agents.execution.protocol import Execution, Report
from parl.report.metrics import RunLog, plain
from parl.report.progress import Progress
from parl.runs.books import Books, env_steps_of, skipped_updates
from parl.runs.clock import Clock
from parl.runs.config import RunConfig
from parl.runs.directory import RunDir
from parl.runs.evaluation import Evaluation
from parl.runs.meter import Meter, per_seed, told_of


class Lines:
    """The lines of one run, which continue those of its earlier sessions."""

    def __init__(
        self,
        config: RunConfig,
        execution: Execution,
        run: RunDir,
        books: Books,
        clock: Clock,
        progress: Progress,
    ):
        self.config, self.execution, self.books = config, execution, books
        self.clock, self.progress = clock, progress
        written = books.resumed_at and books.resumed_at - (books.due is not None)
        self.log = RunLog(run.path, written, settings=config.told(), seeds=config.seeds)
        self.meter = Meter(env_steps_of(execution), clock)

    def add(self, report: Report) -> None:
        """Counts a report of the execution towards the next line."""
        self.meter.add(report)

    def next(self) -> dict[str, Any]:
        """Builds the line of what was measured since the last one, and shows it."""
        now, config = env_steps_of(self.execution), self.config
        meter, self.meter = self.meter, Meter(now, self.clock)
        rate, losses = meter.rate(), meter.losses()
        line: dict[str, Any] = {"env_steps": now}
        line |= {"wall_s": round(self.clock.total, 3)} | self.clock.told()
        line["sps"] = None if rate is None else round(rate * config.num_seeds, 1)
        line |= meter.shares()
        line["updates"] = self.books.updates(self.execution)
        told = {"skipped_updates": skipped_updates(self.execution)}
        told |= told_of(meter.ended(), config.info_names)
        for name, value in (losses | told).items():
            line |= per_seed(name, value)
        shown = None if line["return_mean"] is None else float(line["return_mean"])
        self.progress.update(now, rate, shown, losses)
        return plain(line | self.execution.stats())

    def write(self, line: dict[str, Any], evaluation: Evaluation | None = None) -> dict[str, Any]:
        """Writes a line with the results of an evaluation and the hooks' metrics; returns it."""
        if evaluation is not None:
            for name, value in evaluation.metrics().items():
                line |= per_seed(f"eval/{name}", value)
            line["eval/episodes"] = evaluation.returns.shape[-1]
        line, self.books.noted = line | self.books.noted, {}
        self.log.write(line)
        return line

    def close(self) -> None:
        """Closes the file."""
        self.log.close()
