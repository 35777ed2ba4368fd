"""One setting of a study, and what came of it."""

from pathlib import Path
from typing import Any, NamedTuple

from parl import api
from parl.runs.directory import RunDir


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


def trained(
    path: Path,
    algorithm: Any,
    env: Any,
    chosen: dict[str, Any],
    settings: dict[str, Any],
    **hooks: Any,
) -> Trial:
    """Trains a trial from the start, or goes on where a part of it is there. Raises Diverged."""
    if RunDir(path).is_run():
        own = algorithm if not isinstance(algorithm, str) else None
        own_env = None if isinstance(env, str) else env
        done = api.resume(path, quiet=True, algorithm=own, env=own_env, curve=False, **hooks)
    else:
        done = api.train(algorithm, env, path, True, curve=False, **settings | chosen | hooks)
    return Trial(path, chosen, done.result)
