"""Lines of metrics that wait for an evaluation in another process."""

from typing import Any, NamedTuple, Protocol

from parl.runs.evaluation import Evaluation


class Examiner(Protocol):
    """Evaluates policies elsewhere, one at a time."""

    def begin(self, policy: Any, env_steps: int, episodes: int) -> None:
        """Begins to play `episodes` of every seed's policy, which is that of a step."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether `result` need not wait."""
        ...

    def result(self) -> Evaluation:
        """What the last policy reached. Raises Halted once the run is to stop."""
        ...

    def close(self) -> None:
        """Ends the process."""
        ...


class Evaluated(NamedTuple):
    """An evaluation that has ended."""

    evaluation: Evaluation
    line: dict[str, Any]  # that it belongs to
    later: list[dict[str, Any]]  # the lines after it


class Waiting:
    """One evaluation under way, and the lines that are written after its end."""

    def __init__(self, examiner: Examiner):
        self.examiner = examiner
        self.lines: list[dict[str, Any]] = []  # that of the evaluation, then those after it

    def begin(self, policy: Any, line: dict[str, Any], episodes: int) -> None:
        """Begins the evaluation of a line's policy; none may be under way."""
        assert not self.lines
        self.examiner.begin(policy, line["env_steps"], episodes)
        self.lines = [line]

    def keeps(self, line: dict[str, Any]) -> bool:
        """Whether a line has to wait, and is kept for that."""
        if self.lines:
            self.lines.append(line)
            return True
        return False

    def take(self, wait: bool) -> Evaluated | None:
        """The evaluation under way, if it has ended or is waited for."""
        if not self.lines or not (wait or self.examiner.is_done):
            return None
        evaluation = self.examiner.result()
        first, *later = self.give_up()
        return Evaluated(evaluation, first, later)

    def give_up(self) -> list[dict[str, Any]]:
        """The lines, which wait no longer."""
        lines, self.lines = self.lines, []
        return lines

    def close(self) -> None:
        """Ends the process that evaluates."""
        self.examiner.close()
