"""parl sweep ALGO --env ID --over SPACE [flags]."""

import dataclasses
from typing import Any

from rich.table import Table

from parl.cli.printing import HELP, console
from parl.cli.train import TrainFlags, read_command
from parl.core.errors import ConfigError
from parl.core.settings import declared

USAGE = """usage: parl sweep ALGO --env ID --over SPACE [flags]

Trains an algorithm with many settings, one run each, in one process that compiles once. The
directory holds study.json, trials/, sweep.csv and sweep.png; the same command completes it.

  --over SPACE     learning_rate=1e-4:1e-2:log,gamma=0.9,0.99 or a YAML file of ranges and values
  --num-trials N   settings drawn from the space; not given, every combination of its values
  --num-seeds K    seeds of each trial
  --sample-seed S  the draw of the settings
  --address H:P    trials side by side on a Ray cluster whose nodes share the study's directory
  --pbt PARTS      a population: after each part the worst go on from the best
  --together N     trials at a time that are rows of one program; 1: one after the other
  --out DIR        the study's directory

All flags of 'parl train ALGO --env ID --help' go for every trial."""
SHOWN = 20  # trials in the table


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFlags(TrainFlags):
    """Settings of the sweep and of every trial."""

    over: str = ""
    """The settings to try: name=low:high[:log] or name=value,value, separated by commas, or a YAML
    file of name: [values] or name: {low, high, log}."""
    num_trials: int | None = declared(None, low=1, high=100_000)
    """Settings drawn from the space; by default every combination, where it has no range."""
    sample_seed: int = declared(0, low=0)
    """Seed of the draw of the settings."""
    pbt: int = declared(0, low=0, high=10_000)
    """Parts in which the trials are trained as a population: after each, the worst quarter goes on
    from the best with settings near theirs; 0: trials do not know of each other."""
    together: int = declared(0, low=0, high=100_000)
    """Trials at a time that are trained as rows of one program, which rounds otherwise than trials
    by themselves do; 1: one after the other; 0: that on a CPU, all at once on other devices."""


def run(arguments: list[str]) -> int:
    """parl sweep ALGO --env ID --over SPACE ..."""
    if not arguments or arguments[0] in HELP:
        print(USAGE)
        return 0 if arguments else 2
    command = read_command("sweep", arguments, SweepFlags)
    from parl.studies.sweep import Study, sweep, text

    flags: Any = command.flags
    if not flags.over:
        raise ConfigError("sweep needs settings to try: --over learning_rate=1e-4:1e-2:log.")
    study: Study = sweep(
        command.algorithm,
        command.env,
        flags.over,
        flags.num_trials,
        flags.out,
        flags.quiet,
        flags.sample_seed,
        flags.pbt,
        flags.together,
        **command.keywords,
    )
    table = Table("trial", *study.space, "return [95 % interval]", box=None)
    for trial in study.ranked[:SHOWN]:
        values = [text(value) for value in trial.settings.values()]
        table.add_row(trial.path.name, *values, scored(trial))
    console().print(table)
    if len(study.trials) > SHOWN:
        print(f"... and {len(study.trials) - SHOWN} more in {study.path / 'sweep.csv'}")
    print(
        f"note: the best of {len(study.trials)} is a maximum; run it with fresh seeds "
        f"(--seed {flags.seed + flags.num_seeds}) before you report it."
    )
    print(f"study directory {study.path}")
    return 0


def scored(trial: Any) -> str:
    """A trial's return with its interval."""
    from parl.report.progress import short

    final = trial.result.get("return")
    if not final:
        return "diverged" if trial.error else "-"
    return f"{short(final['mean'])} [{short(final['low'])}, {short(final['high'])}]"
