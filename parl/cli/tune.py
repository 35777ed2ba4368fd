"""parl tune ALGO --env ID --over SPACE [flags], or parl tune --join DIR."""

import dataclasses
from pathlib import Path
from typing import Any

from rich.table import Table

from parl.cli.flags import Flags, parse
from parl.cli.printing import HELP, console
from parl.cli.sweep import scored
from parl.cli.train import TrainFlags, read_command
from parl.core.errors import ConfigError
from parl.core.settings import declared

USAGE = """usage: parl tune ALGO --env ID --over SPACE [flags]
       parl tune --join DIR

Searches the settings with the highest return by Optuna, a run a trial; ends bad trials early; and
trains the best ones anew with seeds that no trial has seen. The directory holds study.json, the
journal, trials/, finals/, finals.json and best.yaml, a file for --config.

  --over SPACE       learning_rate=1e-5:1e-2:log,gamma=0.9,0.99 or a YAML file of ranges and values
  --num-trials N     trials, over all processes
  --num-seeds K      seeds of each trial
  --no-prune         train every trial to its end
  --finalists N      the best trials that are trained anew
  --final-seeds K    with as many fresh seeds
  --out DIR          the study's directory; the same command completes it
  --join DIR         work on a study that another process began
  --pbt PARTS        population-based training in place of the search, as 'parl sweep --pbt' does it

All flags of 'parl train ALGO --env ID --help' go for every trial."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneFlags(TrainFlags):
    """Settings of the search and of every trial."""

    over: str = ""
    """The settings to search: name=low:high[:log] or name=value,value, separated by commas, or a
    YAML file of name: [values] or name: {low, high, log}."""
    num_trials: int = declared(32, low=1, high=100_000)
    """Trials, over all processes."""
    sample_seed: int = declared(0, low=0)
    """Seed of the search."""
    prune: bool = True
    """Whether trials end early whose evaluations are below most others'."""
    finalists: int = declared(3, low=1, high=1_000)
    """The best trials that are trained anew with fresh seeds."""
    final_seeds: int = declared(5, low=1, high=10_000)
    """Seeds of the finals."""


@dataclasses.dataclass(frozen=True)
class JoinFlags(Flags):
    """Work on a study that another process began."""

    join: Path
    """The study's directory."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: list[str]) -> int:
    """parl tune ALGO --env ID --over SPACE ..., or parl tune --join DIR."""
    if not arguments or arguments[0] in HELP:
        print(USAGE)
        return 0 if arguments else 2
    if arguments[0].startswith("--join"):
        joined = parse(JoinFlags, arguments, "parl tune --join")
        from parl.studies import tune

        return show(tune.join(joined.join, joined.quiet))
    if any(word.partition("=")[0] == "--pbt" for word in arguments):
        from parl.cli import sweep

        return sweep.run(arguments)
    command = read_command("tune", arguments, TuneFlags)
    from parl.studies import tune

    flags: Any = command.flags
    if not flags.over:
        raise ConfigError("tune needs settings to search: --over learning_rate=1e-5:1e-2:log.")
    found = tune.tune(
        command.algorithm,
        command.env,
        flags.over,
        flags.num_trials,
        flags.out,
        flags.quiet,
        flags.sample_seed,
        flags.prune,
        flags.finalists,
        flags.final_seeds,
        **command.keywords,
    )
    return show(found)


def show(found: Any) -> int:
    """Prints what a study found."""
    from parl.studies.sweep import text

    print(
        f"{len(found.trials)} trials to the end, {found.pruned} pruned, {found.failed} diverged; "
        f"study directory {found.path}"
    )
    if not found.finals:
        return 0
    names = list(found.finals[0].settings)
    table = Table("trial", *names, "return with fresh seeds [95 % interval]", box=None)
    for trial in found.finals:
        values = [text(value) for value in trial.settings.values()]
        table.add_row(trial.path.name, *values, scored(trial))
    console().print(table)
    print(f"the best settings: --config {found.path / 'best.yaml'}")
    return 0
