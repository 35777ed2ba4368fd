"""The user's hooks of one run, and what they asked for: other environments, an early end."""

from collections.abc import Sequence
from typing import Any

from parl.agents.execution.ended import Ended
from parl.agents.execution.protocol import Execution
from parl.runs.books import Books
from parl.runs.evaluation import Evaluation
from parl.runs.hooks import Hooks, tell
from parl.runs.result import told_at_end
from parl.runs.saver import Saver


class Listeners:
    """Calls the hooks of a run and applies their answers."""

    def __init__(self, hooks: Sequence[Hooks], execution: Execution, books: Books, saver: Saver):
        self.hooks, self.execution, self.books, self.saver = hooks, execution, books, saver
        self.reason = ""  # why the run is to end early; empty: it goes on

    def tell(self, name: str, values: dict[str, Any]) -> None:
        """Calls the hooks of a name; if one raises, the run is saved."""
        books = self.books
        try:
            asked = tell(self.hooks, name, values)
            if asked.parameters and not (name == "on_start" and books.resumed_at is not None):
                books.parameters = books.parameters | asked.parameters
                self.execution.change(books.parameters)
        except Exception:
            if self.saver.is_due and self.saver.last_saved >= 0:
                self.saver.write()
            raise
        books.noted = books.noted | asked.metrics
        self.reason = self.reason or asked.reason

    def evaluated(self, evaluation: Evaluation | None, ended: Ended | None, env_steps: int) -> None:
        """Tells of the policy of a step: its evaluation, or its training episodes."""
        found = told_at_end(evaluation, ended, self.saver.config.info_names)
        self.tell("on_evaluation", {"env_steps": env_steps, **found})
