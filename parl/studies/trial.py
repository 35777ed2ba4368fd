"""One setting of a study, and what came of it."""

from pathlib import Path
from typing import Any, NamedTuple


class Trial(NamedTuple):
    """One setting of a sweep and what came of it."""

    path: Path
    settings: dict[str, Any]
    result: dict[str, Any]  # of result.json; empty where learning diverged
    error: str = ""

    @property
    def score(self) -> float:
        """The mean return over seeds, NaN without one."""
        final = self.result.get("return")
        return float(final["mean"]) if final else float("nan")
