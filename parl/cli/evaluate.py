"""parl eval DIR [--episodes N]."""

import dataclasses
import json
import sys
from pathlib import Path

import tyro

from parl.cli.flags import Flags, parse
from parl.core.settings import declared


@dataclasses.dataclass(frozen=True)
class EvalFlags(Flags):
    """Evaluate a run's policy."""

    dir: tyro.conf.Positional[Path]
    """Directory of the run."""
    checkpoint: str = "latest"
    """Checkpoint: latest, best, or its environment steps."""
    episodes: int = declared(10, low=1, high=1_000_000)
    """Episodes to play."""
    seed: int = declared(0, low=0)
    """Seed of the environments."""
    env: str | None = None
    """Another environment with the same spaces."""
    opponent: str | None = None
    """Opponent instead of the run's own: random, a run directory or module:attribute."""
    sample: bool = False
    """Sample actions instead of taking the most likely ones."""
    max_steps: int | None = declared(None, low=1)
    """Steps after which an episode is cut; by default the environment's time limit, or 10,000."""
    log_info: str | None = None
    """Entries of the environment's info to report, such as success,score, instead of the run's."""


def run(arguments: list[str]) -> int:
    """parl eval DIR [--episodes N] [--seed S]."""
    flags = parse(EvalFlags, arguments, "parl eval")
    from parl import api

    evaluation = api.evaluate(
        flags.dir,
        flags.episodes,
        flags.seed,
        flags.env,
        flags.opponent,
        sample=flags.sample,
        max_steps=flags.max_steps,
        log_info=flags.log_info,
        checkpoint=flags.checkpoint,
    )
    from parl.report.metrics import plain
    from parl.runs.result import returns_line, told_at_end

    told = plain(told_at_end(evaluation, None, ()))
    if line := evaluation.cut_line("the environment"):
        print(f"parl: {line}", file=sys.stderr)
    print(returns_line(told, "sampled" if flags.sample else "greedy"))
    print(json.dumps(told))
    return 0
