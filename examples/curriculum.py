"""Functions that are told how training goes: a curriculum, a metric of one's own, an early end.

    python examples/curriculum.py [DIR]

The corridor of own_environment.py gets longer each time it is walked well.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from own_environment import Corridor

import parl

LONGEST = 12


class Teacher:
    """Makes the corridor longer after a good evaluation, and ends the run after the longest."""

    def __init__(self) -> None:
        self.length = 4

    def __call__(self, told: dict[str, Any]) -> Any:
        """Called after each evaluation with `env_steps` and its results."""
        if told["return_mean"] < 0.8:
            return {"length": self.length}  # a metric, user/length in the next line
        if self.length == LONGEST:
            return parl.Stop("the longest corridor is learned")
        self.length += 4
        return parl.NextEnv(length=self.length)


def main(out: Path, steps: int = 200_000) -> None:
    """Trains with the teacher."""
    lines: list[int] = []
    run = parl.train(
        "ppo",
        Corridor(4),
        out,
        quiet=True,
        steps=steps,
        eval_every=4_096,
        eval_episodes=4,
        eval_env="train",
        execution="host",
        on_evaluation=Teacher(),
        on_record=lambda line: lines.append(line["env_steps"]),
    )
    ended = run.result.get("stopped", "all steps are done")
    print(f"{ended} after {run.result['env_steps']:,} steps and {len(lines)} lines of metrics")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch) / "run")
